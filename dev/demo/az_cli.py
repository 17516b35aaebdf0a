"""``make az-cli``: Microsoft's own ``az backup`` against the emulator, compared with what our hook reads.

az is unmodified and in an environment of its own; it is led here by a custom cloud and signs in as a service
principal. Prints each command with its exit code and what it said, and ends with a status other than 0 at the
first command that fails or reports something else than our hook.

Not driven: ``az backup restore restore-disks`` and ``restore-azurefileshare``. Both look up a storage account
at Microsoft.Storage before they ask Azure Backup for anything, and the emulator has no storage accounts.

    python -m dev.demo.az_cli .venv-az/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azure_backup_emulator import Emulator

if TYPE_CHECKING:
    from airflow_provider_azbackup.core.model.jobs import Job
    from airflow_provider_azbackup.hooks import AzureBackupHook

GROUP, VAULT = "demo-rg", "demo-vault"
HERE = ("--resource-group", GROUP, "--vault-name", VAULT)
CLOUD = "Emulator"
SPEED = 60.0  # emulated seconds per second; az itself waits 5 s for an operation and 30 s for a job
LIMIT = 180.0  # seconds for one command; the slowest waits for a job, once
WIDTH = 34
UNKNOWN = "00000000-0000-0000-0000-000000000404"
SQL = ("VMAppContainer;compute;demo-vms;sqlvm", "SQLDataBase;mssqlserver;payroll")
KIND = ("--backup-management-type", "AzureIaasVM", "--workload-type", "VM")
SQL_KIND = ("--backup-management-type", "AzureWorkload", "--workload-type", "SQLDataBase")


class DifferentError(Exception):
    """A command of az failed, succeeded where it must not, or says something else than our hook."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a command of az came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, None if nothing."""
        return json.loads(self.out) if self.out.strip() else None

    @property
    def last_words(self) -> str:
        """The first line of its error message, else the last of what it wrote to standard error."""
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        return next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "")


class Az:
    """az in a configuration of its own: no account, extension or telemetry of the user who runs this.

    :param python: interpreter of the environment that azure-cli is installed in.
    :param home: an empty directory.
    :param ca_bundle: the certificate authority to trust.
    """

    def __init__(self, python: Path, home: Path, ca_bundle: str) -> None:
        self.python = python.absolute()
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ},
            "HOME": str(home),
            "AZURE_CONFIG_DIR": str(home / ".azure"),
            "AZURE_CORE_COLLECT_TELEMETRY": "false",
            # Or MSAL asks login.microsoftonline.com whether it knows this authority.
            "AZURE_CORE_INSTANCE_DISCOVERY": "false",
            "AZURE_CORE_NO_COLOR": "true",
            "AZURE_CORE_OUTPUT": "json",
            "REQUESTS_CA_BUNDLE": ca_bundle,
            # Whatever it should send to another host than this one ends at a closed port.
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "HTTP_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "localhost",
        }

    def run(self, *words: str) -> Reply:
        """Run ``az`` with these arguments.

        :raises subprocess.TimeoutExpired: when it takes longer than :data:`LIMIT`.
        """
        done = subprocess.run(
            [str(self.python), "-Im", "azure.cli", *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        return Reply(code=done.returncode, out=done.stdout, err=done.stderr)


def same(what: str, az: object, ours: object) -> None:
    """Compare what both read.

    :raises DifferentError: when they differ.
    """
    if az != ours:
        raise DifferentError(f"{what}: az says {az!r}, our hook {ours!r}")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a gate decides on."""

    arm_id: str
    job_id: str
    item: str
    operation: str
    status: str
    errors: tuple[str, ...]

    @classmethod
    def of_az(cls, job: Mapping[str, Any]) -> Facts:
        """Read a job as az prints it."""
        found = job["properties"]
        return cls(
            arm_id=job["id"],
            job_id=job["name"],
            item=found["entityFriendlyName"],
            operation=found["operation"],
            status=found["status"],
            errors=tuple(error["errorTitle"] for error in found.get("errorDetails") or ()),
        )

    @classmethod
    def of_ours(cls, job: Job) -> Facts:
        """Take the same from a job as our hook read it."""
        return cls(
            arm_id=job.ref.path,
            job_id=job.ref.job_id,
            item=job.item,
            operation=job.operation,
            status=job.status,
            errors=tuple(error.title for error in job.errors),
        )

    @property
    def fixed(self) -> tuple[str, ...]:
        """What does not change while a job runs.

        A database's "payroll" and "Backup" become "payroll [sqlvm]" and "Backup (Full)" after a moment.
        """
        return (self.arm_id, self.job_id, self.item.partition(" ")[0], self.operation.partition(" ")[0])


class Tour:
    """The commands, in an order in which each finds what it needs."""

    def __init__(self, azure: Emulator, az: Az, hook: AzureBackupHook, directory: Path) -> None:
        self.azure, self.az, self.hook, self.directory = azure, az, hook, directory
        self.commands = 0

    def go(self) -> None:
        """Run everything.

        :raises DifferentError: at the first command that does not do what it must.
        """
        print(f"{'command':{WIDTH}}exit  what it said")
        self.sign_in()
        self.look_around()
        self.back_up_a_machine()
        self.wait_for_a_failure()
        self.stop()
        self.restore_a_database()
        self.restore_it_elsewhere()
        self.account()

    def sign_in(self) -> None:
        """Register the emulator as a cloud and log in to it as the principal our connection names."""
        connection = self.azure.connection()
        tenant = connection["extra"]["tenant_id"]
        secret = self.directory / "secret"
        secret.touch(mode=0o600)
        secret.write_text(connection["password"])
        endpoints = {
            "resource-manager": self.azure.url,
            "management": self.azure.url,
            "active-directory": self.azure.url,
            "active-directory-resource-id": "https://management.core.windows.net/",
        }
        options = [word for name, url in endpoints.items() for word in (f"--endpoint-{name}", url)]
        self.tell(self.run("cloud register", "--name", CLOUD, "--skip-endpoint-discovery", *options))
        self.tell(self.run("cloud set", "--name", CLOUD))
        # A file, so that no list of processes shows the secret, nor a dash at its beginning an option.
        who = ("--username", connection["login"], "--password", f"@{secret}", "--tenant", tenant)
        (account,) = self.run("login", "--service-principal", *who).json
        same("subscription", account["id"], connection["extra"]["subscription_id"])
        self.tell(f"subscription {account['id']}, {account['state']}")

    def look_around(self) -> None:
        """Vaults and items, and an error."""
        self.tell([vault["name"] for vault in self.run("backup vault list").json])
        vault = self.run("backup vault show", "--resource-group", GROUP, "--name", VAULT).json
        self.tell(f"{vault['name']} in {vault['location']}")
        items = self.run("backup item list", *HERE, *KIND).json
        self.tell(f"{len(items)} virtual machines")
        item = self.run(
            "backup item show", *HERE, *KIND, "--container-name", "vm-good", "--name", "vm-good"
        ).json
        same("item", item["id"], self.hook.resolve_protected_item("vm-good").path)
        same("in the list", item["id"] in {each["id"] for each in items}, True)
        self.tell(item["name"])
        self.tell(self.run("backup job show", *HERE, "--name", UNKNOWN, code=3))

    def back_up_a_machine(self) -> None:
        """A backup that az starts, lists, waits for, and finds the recovery point of."""
        self.azure.plan("vm-good", seconds=20 * SPEED)
        started = self.back_up("vm-good")
        listed = self.run("backup job list", *HERE, "--operation", "Backup").json
        same("jobs", {job["name"] for job in listed}, {job.ref.job_id for job in self.hook.list_jobs()})
        self.tell(f"{len(listed)} job, {listed[0]['properties']['status']}")
        self.tell(self.agreed(self.run("backup job wait", *HERE, "--name", started, "--timeout", "120").json))
        self.tell(self.agreed(self.run("backup job show", *HERE, "--name", started).json))
        where = ("--container-name", "vm-good", "--item-name", "vm-good")
        (point,) = self.run("backup recoverypoint list", *HERE, *KIND, *where).json
        self.tell(f"recovery point {point['name']}, {point['tierType']}")

    def wait_for_a_failure(self) -> None:
        """The defect that a gate must not have: to az a job that failed is a wait that succeeded."""
        self.azure.plan("vm-fails", ending="Failed", seconds=SPEED)
        started = self.back_up("vm-fails")
        waited = self.run("backup job wait", *HERE, "--name", started)
        job = waited.json
        same("status", job["properties"]["status"], "Failed")
        self.tell(f"{self.agreed(job)}; exit code {waited.code} all the same")
        self.tell_ours(started)

    def stop(self) -> None:
        """A job that never ends by itself: az's wait gives up on it with success, then az cancels it."""
        self.azure.plan("vm-cancelled", ending="Never")
        started = self.back_up("vm-cancelled")
        job = self.run("backup job wait", *HERE, "--name", started, "--timeout", "1").json
        same("status", job["properties"]["status"], "InProgress")
        self.tell(f"{self.agreed(job)}; exit code 0 all the same")
        self.tell(self.run("backup job stop", *HERE, "--name", started))
        self.over(started)
        job = self.run("backup job show", *HERE, "--name", started).json
        self.tell(self.agreed(job))
        self.tell_ours(started)

    def restore_a_database(self) -> None:
        """A database backed up and restored over itself: the one restore that asks Azure Backup alone."""
        container, item = SQL
        where = ("--container-name", container, "--item-name", item)
        self.over(self.back_up(item, *SQL_KIND, "--backup-type", "Full", container=container))
        (point,) = self.run("backup recoverypoint list", *HERE, *SQL_KIND, *where).json
        self.tell(f"recovery point {point['name']}, {point['tierType']}")
        how = ("--restore-mode", "OriginalWorkloadRestore", "--rp-name", point["name"])
        sort = ("--workload-type", "SQLDataBase")
        plan = self.run("backup recoveryconfig show", *HERE, *how, *where, *sort)
        same("recovery point", plan.json["recovery_point_id"], point["name"])
        self.tell(plan.json["restore_mode"])
        path = self.directory / "recovery.json"
        path.write_text(plan.out)
        job = self.run("backup restore restore-azurewl", *HERE, "--recovery-config", str(path)).json
        self.tell(self.begun(job))
        self.over(job["name"])
        self.tell(self.agreed(self.run("backup job show", *HERE, "--name", job["name"]).json))

    def restore_it_elsewhere(self) -> None:
        """The same database restored in the secondary region, and the job that runs there."""
        container, item = SQL
        where = ("--container-name", container, "--item-name", item)
        there = "--use-secondary-region"
        items = self.run("backup item list", *HERE, *SQL_KIND, there).json
        ours = self.hook.list_protected_items(backup_management_type="AzureWorkload", secondary_region=True)
        same("items", {each["id"] for each in items} <= {each.item.path for each in ours}, True)
        self.tell(f"{len(items)} databases")
        (point,) = self.run("backup recoverypoint list", *HERE, *SQL_KIND, *where, there).json
        path = next(each["id"] for each in items if each["name"].casefold() == item.casefold())
        (known,) = self.hook.list_recovery_points(path, secondary_region=True)
        same("recovery point", point["name"], known.point_id)
        self.tell(f"recovery point {point['name']}, {point['tierType']}")
        plan = self.directory / "recovery.json"
        elsewhere = {
            "restore_mode": "AlternateLocation",
            "database_name": "MSSQLSERVER/elsewhere",
            "container_id": path.partition("/protectedItems/")[0],
            "alternate_directory_paths": [],
        }
        plan.write_text(json.dumps({**json.loads(plan.read_text()), **elsewhere}))
        job = self.run("backup restore restore-azurewl", *HERE, "--recovery-config", str(plan), there).json
        self.tell(f"job {job['name']}: {job['properties']['operation']}")
        done = self.hook.wait_for_job(job["name"], poll_interval=0.5, timeout=LIMIT, secondary_region=True)
        job = self.run("backup job show", *HERE, "--name", job["name"], there).json
        # Azure's id of the job names the region, and ours the vault.
        same("job", replace(Facts.of_az(job), arm_id=""), replace(Facts.of_ours(done), arm_id=""))
        self.tell(f"{done.item}: {done.status}")
        listed = self.run("backup job list", *HERE, there).json
        same("jobs", [each["name"] for each in listed], [done.ref.job_id])
        self.tell(f"{len(listed)} job")

    def account(self) -> None:
        """See that the emulator knew every request but the one for an unknown job."""
        by_az = [entry for entry in self.azure.requests if "AZURECLI" in (entry["user_agent"] or "")]
        refused = [entry for entry in by_az if entry["status"] is None or entry["status"] >= 400]
        same("refused", [entry["path"].rpartition("/")[2] for entry in refused], [UNKNOWN])
        print(f"\n{self.commands} commands of az, {len(by_az)} requests; all as our hook reads it")

    def back_up(self, item: str, *options: str, container: str = "") -> str:
        """Let az start a backup; the id of its job."""
        where = ("--container-name", container or item, "--item-name", item)
        job = self.run("backup protection backup-now", *HERE, *where, *(options or KIND)).json
        self.tell(self.begun(job))
        return str(job["name"])

    def begun(self, job: Mapping[str, Any]) -> str:
        """Compare a job that runs."""
        az = Facts.of_az(job)
        same("job", az.fixed, self.ours(az.job_id).fixed)
        return f"job {az.job_id}: {az.operation} of {az.item}"

    def agreed(self, job: Mapping[str, Any]) -> str:
        """Compare a job of which nothing changes any more."""
        az = Facts.of_az(job)
        same("job", az, self.ours(az.job_id))
        return " ".join([f"{az.item}: {az.status}", *az.errors])

    def ours(self, job_id: str) -> Facts:
        """Read a job with our hook."""
        return Facts.of_ours(self.hook.get_job(job_id))

    def over(self, job_id: str) -> None:
        """Wait until a job has ended, by our hook: az looks every 30 seconds only."""
        self.hook.wait_for_job(job_id, poll_interval=0.5, timeout=LIMIT, check=False)

    def run(self, command: str, *options: str, code: int = 0) -> Reply:
        """Run a command that must end with this code.

        :raises DifferentError: when it ends with another.
        """
        self.commands += 1
        print(f"{'az ' + command:{WIDTH}}", end="", flush=True)
        reply = self.az.run(*command.split(), *options)
        print(f"{reply.code:4}  ", end="", flush=True)
        if reply.code != code:
            raise DifferentError(
                f"az {command} ended with {reply.code} instead of {code}: {reply.last_words}"
            )
        return reply

    def tell(self, said: Reply | list[str] | str) -> None:
        """Print what the last command printed, after its exit code."""
        if isinstance(said, Reply):
            said = said.last_words or "nothing"
        elif isinstance(said, list):
            said = ", ".join(said)
        print(said, flush=True)

    def tell_ours(self, job_id: str) -> None:
        """Print that our hook's wait for the same job lets nothing pass.

        :raises DifferentError: when it does.
        """
        from airflow_provider_azbackup.exceptions import AzureBackupJobFailedError

        try:
            self.hook.wait_for_job(job_id, timeout=LIMIT, accept_warnings=True)
        except AzureBackupJobFailedError as refused:
            print(f"{'our hook, wait_for_job':{WIDTH}}   -  {type(refused).__name__}", flush=True)
        else:
            raise DifferentError(f"our hook's wait_for_job passed {job_id}")


def _stop(number: int, _: object) -> None:
    # As an exception it ends the az that runs, the emulator and the temporary directory.
    sys.exit(128 + number)


def main() -> int:
    """Start the emulator, run az against it, and say what differed."""
    parser = argparse.ArgumentParser(prog="python -m dev.demo.az_cli", description=__doc__)
    parser.add_argument("python", type=Path, help="interpreter of the environment azure-cli is in")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    with tempfile.TemporaryDirectory(prefix="azbackup-az-") as name, Emulator(speed=SPEED) as azure:
        directory = Path(name)
        os.environ["AIRFLOW_HOME"] = name
        os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "WARNING"
        os.environ["AIRFLOW_CONN_AZURE_BACKUP_DEFAULT"] = json.dumps(azure.connection())
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = "localhost"
        # Airflow reads its environment when it is imported.
        from airflow_provider_azbackup.hooks import AzureBackupHook

        az = Az(options.python, directory, azure.ca_bundle)
        with AzureBackupHook() as hook:
            try:
                Tour(azure, az, hook, directory).go()
            except (DifferentError, subprocess.TimeoutExpired) as problem:
                print(f"\n{problem}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
