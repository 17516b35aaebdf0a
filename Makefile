# Two commands matter: `make demo` and `make test`. Both need git, Python 3.11 or later and a package index, nothing else.
#
#   make demo            the example DAGs on a real Airflow against the emulator; stays up until Ctrl-C
#   make demo EXIT=1     the same, then ends with status 0 only if every DAG did what it should (also with CI=true)
#       SPEED=120            how many emulated seconds pass in one real second
#       PORT=8080            the port of Airflow's UI; a free one by default
#       FLEET=200            how many VMs the fleet has; 20 by default
#   make test            all kinds of tests: unit, emulator, Microsoft's client, end to end on Airflow 3.3 and 2.11, a part
#                        of the fast tests on the releases between, Airflow's UI where there is Chromium (apt-get install
#                        chromium fonts-dejavu-core), Microsoft's JavaScript client where there is npm
#   make coverage        branch coverage of the fast tests; fails below the share in pyproject.toml
#   make screenshots     takes the pictures in docs/images again; needs Chromium and pngquant
#   make az-cli          Microsoft's `az backup` against the emulator, compared with our hook; not in make test
#   make matrix          tests on every Airflow from 2.11 to 3.3 with each Python on the PATH, and on the newest pre-release;
#                        writes docs/compatibility.md
#   make dist            wheels and sdists of both packages in dist/, built twice and compared, then checked by twine; a
#                        software bill of materials of each in build/sbom
#   make rehearse        make dist, then both wheels in an empty environment of each Airflow, and the demo from the wheels
#   make docs            the documentation as a site, in build/site
#   make lint            ruff, mypy, layers, spelling, scripts, workflows and files, as in .pre-commit-config.yaml; JavaScript
#   make lock            resolves requirements/*.txt again (UPGRADE=1 takes the newest of everything)
#   make bench           reads, delay, CPU and memory of many waits, ours and others'; writes docs/performance.md
#   make fleet           WAITS=1000 gates, then one gate for 5,000 items, on a real triggerer that is killed halfway of both;
#                        then the cost of a takeover alone
#   make distributed     examples, chaos set and WAITS=1000 gates on two Celery workers and two triggerers
#   make bench-imports   the time that importing our modules takes, compared with other providers
#   make live            tries the provider against your own vault; LIVE_CONNECTION names a file with the connection, and
#                        docs/real-vault.md the other variables
#   make clean           removes what these commands have created in this directory

SHELL := /bin/sh
BIN := .venv/bin

# The first of these that is 3.11 or later; `make PYTHON=/path/to/python` overrules.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v "$$python" && break; done)

# Never download an interpreter, and do not warn about hard links across file systems.
export UV_PYTHON_DOWNLOADS := never
export UV_LINK_MODE := copy
# With it, every Airflow process would compile our modules again.
export PYTHONDONTWRITEBYTECODE :=
# EXIT and CI reach the demo through the environment; `exec` lets a signal to make reach it as well.
export EXIT CI

# Ignore an environment that happens to be active.
export VIRTUAL_ENV := $(CURDIR)/.venv

.PHONY: demo test coverage matrix dist rehearse docs lint lock bench fleet distributed bench-imports screenshots az-cli live clean

demo: .venv/demo.installed
	@exec $(BIN)/python -m dev.demo.demo $(if $(SPEED),--speed '$(SPEED)') $(if $(PORT),--port '$(PORT)') $(if $(FLEET),--machines '$(FLEET)')

test: .venv/test.installed $(if $(shell command -v npm),tests/emulator/js/node_modules/installed)
	@exec dev/test

coverage: .venv/test.installed
	@$(BIN)/python -m pytest -m "not e2e" -n auto --dist worksteal --cov --cov-report term

matrix: .venv/test.installed
	@AZBACKUP_SAMPLE=1 $(BIN)/nox --session fast; seen=$$?; \
	$(BIN)/nox --session wheel stack || seen=$$?; \
	AZBACKUP_SAMPLE=1 $(BIN)/nox --session pre_release; \
	$(BIN)/python -m dev.release.matrix --write && exit $$seen

dist: .venv/test.installed
	@dev/release/dist

rehearse: dist
	@$(BIN)/python -m dev.release.rehearse

# The JavaScript is linted where npm is installed, as it is in CI.
lint: .venv/test.installed $(if $(shell command -v npm),dev/lint/node_modules/installed)
	$(BIN)/pre-commit run --all-files --show-diff-on-failure
	$(if $(shell command -v npm),dev/lint/node_modules/.bin/biome lint --config-path=dev/lint airflow_provider_azbackup/page tests/emulator/js,\
		@echo "npm is not installed, so the JavaScript is not linted")

bench: .venv/test.installed
	$(BIN)/python -m dev.bench.reads --write
	$(BIN)/python -m dev.bench.scout --write
	$(BIN)/python -m dev.bench.cost --write

fleet: .venv/test.installed
	$(BIN)/python -m dev.bench.one_gate --write $(if $(WAITS),--waits '$(WAITS)')
	$(BIN)/python -m dev.bench.takeover --write

distributed: .venv-distributed/installed
	.venv-distributed/bin/python -m dev.bench.distributed --write $(if $(WAITS),--waits '$(WAITS)')

bench-imports: .venv/test.installed
	$(BIN)/python dev/bench/import_cost.py

live: .venv/test.installed
	@$(BIN)/python -m dev.live

screenshots: .venv/test.installed
	@exec $(BIN)/python -m dev.demo.screenshots

az-cli: .venv/demo.installed .venv-az/installed
	@exec $(BIN)/python -m dev.demo.az_cli .venv-az/bin/python

docs: .venv-docs/installed
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict
	@echo "The site begins at build/site/index.html"

lock: $(BIN)/uv
	dev/release/lock $(if $(UPGRADE),--upgrade)

clean:
	rm -rf .venv .venv-az .venv-docs .venv-distributed .venv-releases build dist dev/lint/node_modules tests/emulator/js/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis .nox

# Only the locked files are installed, checked by their hashes. The two packages are linked, not copied. What each
# Airflow imports is compiled here by one process, or the first processes of the tests would all do that.
.venv/%.installed: requirements/%.txt pyproject.toml emulator/pyproject.toml $(BIN)/uv
	@echo "Installing requirements/$*.txt into .venv"
	@$(BIN)/uv pip install --quiet --require-hashes -r requirements/$*.txt
	@$(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e . -e ./emulator
	@AIRFLOW_HOME=$(CURDIR)/build/airflow $(BIN)/python -m dev.stack.preloaded </dev/null >/dev/null 2>&1
	@touch $@

# The linter of the JavaScript, and Microsoft's JavaScript client for the tests of the emulator.
%/node_modules/installed: %/package-lock.json
	@echo "Installing $< into $*/node_modules"
	@npm ci --prefix $* --silent --no-audit --no-fund
	@touch $@

# azure-cli pins the versions of a hundred packages, so it needs an environment of its own.
.venv-az/installed: requirements/az-cli.txt $(BIN)/uv
	@echo "Installing requirements/az-cli.txt into .venv-az"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-az
	@$(BIN)/uv pip install --quiet --python .venv-az/bin/python --require-hashes -r requirements/az-cli.txt
	@touch $@

# Celery stays out of the environment of the tests, because this package does not need it.
.venv-distributed/installed: requirements/distributed.txt pyproject.toml emulator/pyproject.toml $(BIN)/uv
	@echo "Installing requirements/distributed.txt into .venv-distributed"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-distributed
	@$(BIN)/uv pip install --quiet --python .venv-distributed/bin/python --require-hashes -r requirements/distributed.txt
	@$(BIN)/uv pip install --quiet --python .venv-distributed/bin/python --no-deps --no-build-isolation -e . -e ./emulator
	@touch $@

# The site does not need the package's dependencies, because its reference is read without imports.
.venv-docs/installed: requirements/docs.txt $(BIN)/uv
	@echo "Installing requirements/docs.txt into .venv-docs"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-docs
	@$(BIN)/uv pip install --quiet --python .venv-docs/bin/python --require-hashes -r requirements/docs.txt
	@touch $@

$(BIN)/uv: requirements/uv.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed and none was found; try: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments \
	(no ensurepip). On Debian and Ubuntu: apt install python3-venv; or: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Making .venv with $(PYTHON)"
	@"$(PYTHON)" -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@
