"""What a release is made by agrees with what it is: workflows, matrix, metadata, changelog, registry."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_azbackup import __version__
from airflow_provider_azbackup.get_provider_info import get_provider_info
from azure_backup_emulator import __main__ as emulator_command
from azure_backup_emulator import __version__ as emulator_version
from dev.release.releases import ALL, LOWEST_LIST, NEWEST, NEXT, TRIED, lock_file

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EMULATOR: dict[str, Any] = tomllib.loads((ROOT / "emulator/pyproject.toml").read_text())["project"]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in ROOT.glob(".github/workflows/*.yml")}
REGISTRY = yaml.safe_load((ROOT / ".airflow-registry.yaml").read_text())
KINDS = ("operators", "sensors", "hooks", "triggers")
NEEDS_NOX = pytest.mark.skipif(
    find_spec("nox") is None, reason="nox is no part of an older release's environment"
)


def steps(workflow: str) -> list[dict[str, Any]]:
    return [step for job in WORKFLOWS[workflow]["jobs"].values() for step in job["steps"]]


def test_the_classifiers_name_exactly_the_pythons_of_the_matrix() -> None:
    prefix = "Programming Language :: Python :: "
    named = {each.removeprefix(prefix) for each in PROJECT["classifiers"] if each.startswith(prefix)}
    assert {each for each in named if "." in each} == set().union(*ALL.values())
    assert PROJECT["requires-python"] == f">={ALL[NEWEST][0]}"


def test_the_emulator_runs_on_the_same_pythons_under_the_same_licence() -> None:
    prefix = "Programming Language :: Python :: 3."
    pythons = [[each for each in of["classifiers"] if each.startswith(prefix)] for of in (PROJECT, EMULATOR)]
    assert pythons[0] == pythons[1]
    assert EMULATOR["requires-python"] == PROJECT["requires-python"]
    assert EMULATOR["license"] in PROJECT["license"]
    assert (ROOT / "emulator/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_command_of_the_emulator_exists() -> None:
    (entry,) = entry_points(group="console_scripts", name=EMULATOR["name"])
    assert entry.load() is emulator_command.main
    assert EMULATOR["scripts"] == {EMULATOR["name"]: entry.value}


def test_both_packages_have_one_version_and_the_extra_takes_it() -> None:
    assert emulator_version == __version__
    assert PROJECT["optional-dependencies"]["emulator"] == [f"{EMULATOR['name']}=={__version__}"]


def test_the_emulator_depends_on_neither_airflow_nor_the_provider_nor_an_azure_sdk() -> None:
    names = {re.split(r"\W*[<>=]", each)[0] for each in EMULATOR["dependencies"]}
    assert names == {"aiohttp", "cryptography"}


def test_the_newest_release_of_the_matrix_is_the_one_that_is_locked_for_the_tests() -> None:
    assert f"\napache-airflow=={NEWEST} " in lock_file(NEWEST).read_text()


def test_the_workflow_runs_every_release_of_the_matrix_on_all_of_its_pythons() -> None:
    job = WORKFLOWS["ci"]["jobs"]["matrix"]
    assert job["strategy"]["matrix"]["airflow"] == [*ALL]
    (setup,) = [step for step in job["steps"] if "setup-python" in step.get("uses", "")]
    assert sorted(setup["with"]["python-version"].split()) == [*ALL[NEWEST]]


@NEEDS_NOX
def test_the_workflow_has_nox_run_all_fast_tests_of_a_release() -> None:
    (command,) = [
        step["run"] for step in WORKFLOWS["ci"]["jobs"]["matrix"]["steps"] if "nox" in step.get("run", "")
    ]
    chosen = []
    for release in ALL:
        asked = shlex.split(command.replace("${{ matrix.airflow }}", release))[1:]
        told = subprocess.run(
            [sys.executable, "-m", "nox", *asked, "--list", "--json"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        chosen += [(each["call_spec"]["airflow"], each["python"]) for each in json.loads(told.stdout)]
    assert {*chosen} == {(release, python) for release, pythons in ALL.items() for python in pythons}
    assert len(chosen) == sum(len(pythons) + 1 for pythons in ALL.values())  # the lowest dependencies as well


def test_the_newest_pre_release_is_tried_each_night_and_may_fail() -> None:
    job = WORKFLOWS["ci"]["jobs"]["pre-release"]
    assert (job["continue-on-error"], job["if"]) == (True, "github.event_name == 'schedule'")
    assert job["name"].startswith(f"Airflow {NEXT},")
    assert job["steps"][-1]["run"].endswith("nox --session pre_release")
    assert f"\napache-airflow=={NEXT} " in lock_file(NEXT).read_text()
    # Once it is final, it takes the place of the newest, and the next pre-release its place here.
    assert NEXT not in ALL
    assert re.search(r"(a|b|rc)\d+$", NEXT)


def test_a_python_that_is_not_promised_is_tried_each_night_and_may_fail() -> None:
    job = WORKFLOWS["ci"]["jobs"]["python-3-14"]
    assert (job["continue-on-error"], job["if"]) == (True, "github.event_name == 'schedule'")
    (setup,) = [step for step in job["steps"] if "setup-python" in step.get("uses", "")]
    python = setup["with"]["python-version"]
    assert f"make PYTHON=python{python} .venv/test.installed" in [step.get("run") for step in job["steps"]]
    # Once it is seen to pass, it joins the matrix and the classifiers, and the next one takes its place here.
    assert python not in ALL[NEWEST]


def test_every_release_runs_whole_on_a_real_airflow() -> None:
    job = WORKFLOWS["ci"]["jobs"]["stack"]
    assert "if" not in job  # a sample is all that `make test` runs
    assert job["steps"][-1]["run"].endswith("nox --session stack")


def test_what_is_published_was_rehearsed_and_its_bill_of_materials_is_attested() -> None:
    jobs = WORKFLOWS["release"]["jobs"]
    assert "make rehearse" in [step.get("run") for step in jobs["build"]["steps"]]
    (attest,) = [step for step in jobs["publish"]["steps"] if "attest" in step.get("uses", "")]
    assert attest["with"]["subject-path"].split() == ["dist/*", "sbom/*"]


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_an_action_is_named_by_its_commit_with_its_version_beside_it(workflow: str) -> None:
    text = (ROOT / ".github" / "workflows" / f"{workflow}.yml").read_text()
    used = re.findall(r"uses: (.+)$", text, re.MULTILINE)
    assert len(used) == len([step for step in steps(workflow) if "uses" in step])
    pinned = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert [each for each in used if not pinned.fullmatch(each)] == []


def test_dependabot_watches_the_actions_and_the_lock_files_but_not_what_is_old_on_purpose() -> None:
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    found = {each["package-ecosystem"]: each for each in updates}
    assert found["github-actions"]["directory"] == "/"
    assert found["pip"]["directory"] == "/requirements"
    locks = [*ROOT.glob("dev/*/package-lock.json"), *ROOT.glob("tests/*/*/package-lock.json")]
    assert sorted(found["npm"]["directories"]) == [f"/{lock.parent.relative_to(ROOT)}" for lock in locks]
    left_out = {path for glob in found["pip"]["exclude-paths"] for path in ROOT.glob(glob)}
    assert left_out == {*(lock_file(release) for release in TRIED if release != NEWEST), LOWEST_LIST}


def test_what_is_said_of_the_vendored_library_is_what_its_provenance_says() -> None:
    said = (ROOT / "SECURITY.md").read_text()
    provenance = (ROOT / "airflow_provider_azbackup/page/static/uplot/PROVENANCE.md").read_text()
    (version,) = re.findall(r"^uPlot ([\d.]+),", provenance)
    assert f"uPlot {version} (MIT licence)" in said
    assert f"`uplot@{version}`" in said and f"`uplot@{version}`" in provenance


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_a_workflow_runs_commands_that_exist(workflow: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for command in [step["run"] for step in steps(workflow) if "run" in step]:
        for target in re.findall(r"^make (\S+)$", command, re.MULTILINE):
            rule = re.escape(target.replace(".venv/test.", ".venv/%."))
            assert re.search(rf"^{rule}:", makefile, re.MULTILINE), target
        for program in re.findall(r"^(\.ci/\S+|dev/\S+)$", command, re.MULTILINE):
            assert (ROOT / program).exists()


def test_only_the_job_that_publishes_may_sign_and_no_job_holds_a_password() -> None:
    for workflow in WORKFLOWS.values():
        assert workflow["permissions"] == {"contents": "read"}
        assert "secrets." not in str(workflow)
    may = {name: job.get("permissions") for name, job in WORKFLOWS["release"]["jobs"].items()}
    assert may == {"build": None, "publish": {"id-token": "write", "attestations": "write"}}


@pytest.mark.parametrize("changelog", ["CHANGELOG.md", "emulator/CHANGELOG.md"])
def test_a_changelog_has_one_dated_heading_for_each_version(changelog: str) -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / changelog).read_text(), re.MULTILINE)
    dated = [re.fullmatch(r"(\d+\.\d+\.\d+) \((?:\d{4}-\d\d-\d\d|unreleased)\)", each) for each in headings]
    versions = [each[1] for each in dated if each]
    assert len(versions) == len(headings) == len({*versions})
    assert __version__ in versions


def test_the_registry_is_told_what_airflow_is_told() -> None:
    info = get_provider_info()
    assert REGISTRY["package-name"] == info["package-name"] == PROJECT["name"]
    assert REGISTRY["display-name"] == info["name"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_registry_names_every_class(kind: str) -> None:
    module = import_module(f"airflow_provider_azbackup.{kind}")
    public = {
        f"{module.__name__}.{name}"
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
        and not issubclass(value, Exception)
    }
    assert {entry["module"] for entry in REGISTRY[kind]} == public
    assert all(entry["description"] for entry in REGISTRY[kind])


def test_what_else_the_registry_names_can_be_imported() -> None:
    for entry in REGISTRY["other"]:
        module, _, name = entry["module"].rpartition(".")
        assert getattr(import_module(module), name)


@NEEDS_NOX
def test_the_sessions_of_nox_name_files_that_exist() -> None:
    import noxfile  # here: the file needs nox

    named = (*noxfile.AIRFLOWS, *noxfile.LIBRARIES, *noxfile.NEWEST_STACK)
    assert [name for name in named if not (ROOT / name).is_file()] == []
