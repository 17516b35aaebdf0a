"""The wheel in an empty environment of each release: Airflow lists it, knows its connection, no warnings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azbackup import __version__
from airflow_provider_azbackup.get_provider_info import get_provider_info
from dev.release.releases import ALL, ROOT, EnvironmentMissingError, empty_environment, interpreter

pytestmark = pytest.mark.e2e

# What one interpreter of each environment looks at, in one process: Airflow alone takes seconds to start.
LOOK = """
import contextlib, io, json, pkgutil, sys, warnings
from importlib import import_module
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

import airflow
import jsonschema
from airflow.cli import cli_parser
# What warns of Airflow's own future when it is first imported must not be taken for ours.
import airflow.providers.common.compat.sdk, airflow.triggers.base, airflow.hooks.base, airflow.models
with contextlib.suppress(ImportError):
    import airflow.api_fastapi.app, airflow.api_fastapi.core_api.security

with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    import airflow_provider_azbackup as package
    names = [each.name for each in pkgutil.walk_packages(package.__path__, "airflow_provider_azbackup.")]
    missing = {}
    for name in names:
        if not name.endswith("__main__"):
            try:
                import_module(name)
            except ImportError as error:
                missing[name] = str(error)

def command(*words):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        asked = cli_parser.get_parser().parse_args([*words, "--output", "json"])
        asked.func(asked)
    return json.loads(printed.getvalue())

def form():
    # The fields that the page of connections is given: from 3.0 on as the API gives them, without FAB.
    try:
        from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
    except ImportError:
        from airflow.providers_manager import ProvidersManager
        prefix = "extra__azure_backup__"
        widgets = ProvidersManager().connection_form_widgets
        return [name.removeprefix(prefix) for name in widgets if name.startswith(prefix)]
    (ours,) = [each for each in HookMetaService.hook_meta_data() if each.connection_type == "azure_backup"]
    return [*(ours.extra_fields or ())]

(entry,) = distribution("airflow-provider-azbackup").entry_points.select(group="apache_airflow_provider")
schemas = Path(airflow.__path__[0])
jsonschema.validate(entry.load()(), json.loads((schemas / "provider_info.schema.json").read_text()))
print(json.dumps({
    "form": form(),  # first: it cannot be had after a command that has looked at the hooks without stand-ins
    "where": package.__file__,
    "emulator": find_spec("azure_backup_emulator") is not None,
    "info": entry.load()(),
    "warned": [f"{each.filename}: {each.message}" for each in warned],
    "missing": missing,
    "modules": names,
    "providers": command("providers", "list"),
    "hooks": command("providers", "hooks"),
    "links": command("providers", "links"),
}), file=sys.__stdout__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(directory)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (built,) = directory.glob("*.whl")
    return built


def look(release: str, wheel: Path, home: Path) -> dict[str, Any]:
    """Install the wheel and say what Airflow says of it."""
    python = empty_environment(release, [wheel], home / "environment")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "PYTHON"))}
    done = subprocess.run(
        [str(python), "-c", LOOK],
        cwd=home,
        env={**env, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**seen, "release": release}


@pytest.fixture(scope="module")
def looks(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Mapping[str, Future[dict[str, Any]]]]:
    """All the releases that are asked for, two at a time."""
    asked = {item.callspec.params["seen"] for item in request.session.items if item.path == request.path}
    with ThreadPoolExecutor(max_workers=2) as pool:
        homes = {release: tmp_path_factory.mktemp(release) for release in ALL if release in asked}
        yield {release: pool.submit(look, release, wheel, home) for release, home in homes.items()}


@pytest.fixture(scope="module", params=ALL)
def seen(request: pytest.FixtureRequest, looks: Mapping[str, Future[dict[str, Any]]]) -> dict[str, Any]:
    try:
        interpreter(request.param)
    except EnvironmentMissingError as error:
        pytest.skip(f"no Python here that Airflow {request.param} runs on: {error}")
    return looks[request.param].result()


def test_the_wheel_is_what_is_imported_and_all_of_it_can_be(seen: dict[str, Any]) -> None:
    assert "site-packages" in seen["where"]
    assert "airflow_provider_azbackup.operators" in seen["modules"]
    assert not seen["emulator"]
    # What an older Airflow cannot serve: one that users import, what only Airflow 3.3 calls for, the page.
    says = {"retries": "needs Airflow 3.3 or later", "stream": "airflow.triggers.shared_stream"}
    if seen["release"] < "3.1":
        says |= dict.fromkeys(("app", "connections", "gates"), "airflow")
    missing = {name.rpartition(".")[2]: reason for name, reason in seen["missing"].items()}
    assert all(says.get(name, "nothing else may be missing") in reason for name, reason in missing.items())


def test_importing_it_warns_of_nothing(seen: dict[str, Any]) -> None:
    assert seen["warned"] == []


def test_airflow_lists_the_provider(seen: dict[str, Any]) -> None:
    (row,) = [row for row in seen["providers"] if row["package_name"] == "airflow-provider-azbackup"]
    assert row["version"] == __version__


def test_airflow_knows_the_connection_type_and_imports_its_hook(seen: dict[str, Any]) -> None:
    (row,) = [row for row in seen["hooks"] if row["connection_type"] == "azure_backup"]
    assert row["class"] == "airflow_provider_azbackup.hooks.AzureBackupHook"
    assert row["hook_name"] == "Azure Backup"
    assert row["package_name"] == "airflow-provider-azbackup"


def test_the_page_of_connections_is_given_every_field_of_ours(seen: dict[str, Any]) -> None:
    (ours,) = get_provider_info()["connection-types"]
    # Airflow 3.0 makes no field of any provider without FAB, which is not in an empty environment.
    fields = {} if seen["release"].startswith("3.0.") else ours["conn-fields"]
    assert {*seen["form"]} == {*fields}


def test_airflow_lists_the_extra_links(seen: dict[str, Any]) -> None:
    listed = {row["extra_link_class_name"] for row in seen["links"]}
    assert {*get_provider_info()["extra-links"]} <= listed


def test_the_provider_info_is_the_one_of_this_clone(seen: dict[str, Any]) -> None:
    """It was held against the schema of the release's own Airflow before."""
    assert seen["info"] == get_provider_info()
