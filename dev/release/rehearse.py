"""``make rehearse``: a release as its users will meet it, from the files in ``dist/`` and not from the clone.

Compares what the wheels contain with what is committed, installs both into an empty environment of each
Airflow and looks at them there, then runs the demo from the wheels on the newest Airflow. It publishes
nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import ZipFile

from dev.release.releases import NEWEST, ROOT, EnvironmentMissingError, empty_environment

RELEASES = ("2.11.2", "3.1.8", "3.2.2", NEWEST)
# The folder in the clone of each package, by the name that its distribution has in file names.
PACKAGES: Mapping[str, str] = {
    "airflow_provider_azbackup": "airflow_provider_azbackup",
    "azure_backup_emulator": "emulator/azure_backup_emulator",
}
# What a Python of an environment says of what is installed there.
LOOK = """
import json, pkgutil
from importlib import import_module
from importlib.metadata import distribution, version
from airflow.providers_manager import ProvidersManager

package = import_module("airflow_provider_azbackup")
emulator = import_module("azure_backup_emulator")
for name in ("hooks", "operators", "sensors", "triggers"):
    import_module(f"airflow_provider_azbackup.{name}")
with emulator.Emulator() as azure:
    url = azure.url
print(json.dumps({
    "airflow": version("apache-airflow"),
    "where": [package.__file__, emulator.__file__],
    "versions": [package.__version__, version("airflow-provider-azbackup"), version("azure-backup-emulator")],
    "provider": ProvidersManager().providers["airflow-provider-azbackup"].version,
    "emulator": url,
}))
"""


class RehearsalError(Exception):
    """The release is not what it should be; says in what."""


def wheels(dist: Path) -> list[Path]:
    """Return the wheels, and compare what they contain with the files that are committed.

    :raises RehearsalError: when a wheel is missing, or a file is missing in it or too many.
    """
    found = []
    for package, folder in PACKAGES.items():
        built = [*dist.glob(f"{package}-*.whl")]
        if len(built) != 1:
            raise RehearsalError(f"{dist} has {len(built)} wheels of {package}; expected one")
        listed = subprocess.run(
            ["git", "ls-files", folder], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.split()
        expected = {package + name.removeprefix(folder) for name in listed}
        names = {name for name in ZipFile(built[0]).namelist() if ".dist-info/" not in name}
        if names != expected:
            raise RehearsalError(f"{built[0].name} and the clone differ in {sorted(names ^ expected)}")
        print(f"{built[0].name}: {len(names)} files, as committed", flush=True)
        found.append(built[0])
    return found


def look(release: str, files: Sequence[Path], home: Path) -> Path:
    """Install both wheels with a release of Airflow, look at them, and return the Python of the environment.

    :raises RehearsalError: when something else than the wheels is found there.
    """
    python = empty_environment(release, files, home / "environment")
    done = _run([str(python), "-c", LOOK], home, home)
    if done.returncode:
        raise RehearsalError(f"Airflow {release}:\n{done.stdout[-4000:]}")
    seen = json.loads(done.stdout.splitlines()[-1])
    version = files[0].name.split("-")[1]
    outside = [where for where in seen["where"] if not Path(where).is_relative_to(home / "environment")]
    if outside or {*seen["versions"], seen["provider"]} != {version} or seen["airflow"] != release:
        raise RehearsalError(f"Airflow {release} has something else than the wheels: {seen}")
    print(f"Airflow {release}: provider {seen['provider']} from {_short(seen['where'][0], home)}", flush=True)
    return python


def demo(python: Path, home: Path) -> None:
    """Run the demo with a Python of an empty environment, in a directory without our packages.

    :raises RehearsalError: when an example does not do what it must.
    """
    for name in ("dev", "example_dags"):
        shutil.copytree(
            ROOT / name, home / name, ignore=shutil.ignore_patterns("node_modules", "__pycache__")
        )
    where = "import airflow_provider_azbackup as p, azure_backup_emulator as e; print(p.__file__, e.__file__)"
    paths = _run([str(python), "-c", where], home, home).stdout.split()
    print("The demo imports " + " and ".join(_short(path, home) for path in paths), flush=True)
    done = _run([str(python), "-m", "dev.demo.demo"], home, home, EXIT="1")
    print(done.stdout, flush=True)
    if done.returncode:
        raise RehearsalError(f"the demo ended with {done.returncode}")


def _short(path: str, home: Path) -> str:
    return str(Path(path).relative_to(home))


def _run(command: Sequence[str], cwd: Path, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command without what another Python or Airflow was set up with."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "PYTHON"))}
    return subprocess.run(
        command,
        cwd=cwd,
        env={**kept, "AIRFLOW_HOME": str(home / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def main() -> int:
    """Rehearse the release in ``dist/``; return the exit status."""
    with tempfile.TemporaryDirectory(prefix="azbackup-rehearsal-") as directory:
        try:
            files = wheels(ROOT / "dist")
            for release in RELEASES:
                home = Path(directory, release).resolve()
                home.mkdir()
                python = look(release, files, home)
                if release == NEWEST:
                    demo(python, home)
                shutil.rmtree(home)
        except (RehearsalError, EnvironmentMissingError) as error:
            print(error, file=sys.stderr)
            return 1
    print(f"Rehearsed on Airflow {', '.join(RELEASES)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
