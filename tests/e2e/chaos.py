"""Many runs at once, each with a machine and a vault to itself, and what is seen of them meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dev.stack.airflow_api import FINISHED, AirflowApiError, Json, Run, Task
from dev.stack.pace import Limit
from dev.stack.stack import Stack, StackError
from tests.e2e.azure import Azure

Condition = Callable[[], bool]
Story = Callable[["Case"], Iterator[Condition]]

# A job that only ends if somebody ends it. It never leaves its first phase: cancelled in a later one, it ends
# with a warning.
FOR_EVER = {"ending": "Never", "seconds": 1e9}
BUSY = {"InProgress", "Cancelling"}


class Case:
    """One run of a Dag of ``dags/chaos.py``: whatever happens in its vault is this run's doing."""

    def __init__(self, airflow: Stack, azure: Azure, vault: str) -> None:
        self.airflow, self.azure, self.vault = airflow, azure, vault
        self.run: Run | None = None
        self.backup: Task | None = None
        self.gate = "none"
        self.requests: list[Json] = []
        self.jobs: list[Json] = []
        self.trouble = ""

    def plan(self, **plan: Any) -> None:
        """Decide how its coming backups go."""
        self.azure.plan(self.vault, **plan)

    def fault(self, **fault: Any) -> None:
        """Let one coming request in its vault meet trouble."""
        self.azure.fault(**{**fault, "path": f"/vaults/{self.vault}/{fault['path']}"})

    def begin(self, dag_id: str, *, conn_id: str = "azure_backup_default") -> None:
        conf = {"item": self.vault, "vault": self.vault, "conn_id": conn_id}
        self.run = self.airflow.run_dag(dag_id, conf)

    def complete(self) -> None:
        """Let the backup that runs come to its end."""
        for job in self.jobs:
            if job["status"] in BUSY:
                self.azure.set_status(job["id"], "Completed")

    @property
    def task(self) -> Task:
        assert self.backup, "the run has not begun"
        return self.backup

    @property
    def state(self) -> str:
        return self.backup.state if self.backup else "none"

    @property
    def tries(self) -> int:
        return self.backup.try_number if self.backup else 0

    @property
    def triggerer(self) -> int | None:
        """The id of the triggerer that watches its job."""
        job = self.task.facts["triggerer_job"]
        return int(job["id"]) if job else None

    @property
    def is_over(self) -> bool:
        return self.state in FINISHED and self.gate in FINISHED

    def asked(self, method: str, ending: str) -> list[Json]:
        """Return what was asked of its vault: requests of this method with this end of their path."""
        return [
            each
            for each in self.requests
            if each["method"] == method and each["path"].lower().endswith(ending.lower())
        ]

    @property
    def looks(self) -> int:
        """How often somebody looked at one of its jobs."""
        return sum("/backupjobs/" in each["path"].lower() for each in self.asked("GET", ""))

    @property
    def statuses(self) -> list[str]:
        """How its backups stand in Azure, in the order they were started."""
        return [job["status"] for job in self.jobs]


class Chaos:
    """The runs that something is yet to be seen of, and the one look at Airflow and Azure they share."""

    def __init__(self, airflow: Stack, azure: Azure) -> None:
        self.airflow, self.azure = airflow, azure
        self._spare = iter(azure.spare_vaults)
        self.cases: list[Case] = []

    def case(self) -> Case:
        """Return a new one; its backups run until it says otherwise."""
        case = Case(self.airflow, self.azure, next(self._spare))
        case.plan(**FOR_EVER)
        self.cases.append(case)
        return case

    def refresh(self, cases: Sequence[Case]) -> None:
        """Look at some runs, once."""
        begun = {case.run: case for case in cases if case.run}
        tasks = self.airflow.tasks_of(list(begun))
        requests, jobs = self.azure.requests, self.azure.state()["jobs"]
        for task in tasks:
            case = begun[task.run]
            if task.task_id == "backup":
                case.backup = task
            else:
                case.gate = task.state
        for case in begun.values():
            where = f"/vaults/{case.vault}/"
            case.requests = [each for each in requests if where in each["path"].lower()]
            case.jobs = [each for each in jobs if where in each["item"].lower()]

    def until(self, condition: Condition, *, timeout: float) -> None:
        """Wait until something is seen of the runs.

        :raises TimeoutError: when it is not, with how they stand.
        """
        limit = Limit(timeout)
        while True:
            self.airflow.check()
            try:
                self.refresh(self.cases)
                if condition():
                    return
            except AirflowApiError as error:
                if 0 < error.status < 500:  # no answer, or none of sense: it is being killed, or busy
                    raise
            if limit.is_over:
                raise TimeoutError(f"not seen in {limit}:\n{self}")
            time.sleep(1)

    def play(self, stories: Sequence[tuple[Case, Story]], *, timeout: float) -> None:
        """Run all stories side by side. What goes wrong in one is noted in its case and stops no other."""
        going = {case: story(case) for case, story in stories}
        waiting: dict[Case, Condition] = dict.fromkeys(going, lambda: True)
        limit = Limit(timeout)

        def step() -> bool:
            seen = time.monotonic()
            for case in list(waiting):
                if time.monotonic() - seen > 1:  # what another did took its time; what was seen is old
                    self.refresh(self.cases)
                    seen = time.monotonic()
                try:
                    while waiting[case]():
                        waiting[case] = next(going[case])
                    continue
                except StopIteration:
                    pass
                except (AssertionError, AirflowApiError, StackError, OSError, LookupError) as error:
                    case.trouble = f"{type(error).__name__}: {error}"
                del waiting[case]
                self.cases.remove(case)
            return not waiting or limit.is_over

        self.until(step, timeout=timeout + 60)
        for case in waiting:
            case.trouble = f"its story had not ended after {limit}"
            self.cases.remove(case)
        self.refresh(list(going))  # what came after the end of a story counts as well

    def __str__(self) -> str:
        return "\n".join(
            f"{case.run.dag_id if case.run else '-'} {case.vault}: {case.state} (try {case.tries}), "
            f"gate {case.gate}, "
            f"{len(case.asked('POST', '/backup'))} backups and {len(case.asked('POST', '/cancel'))} cancels, "
            f"jobs {case.statuses} {case.trouble}"
            for case in self.cases
        )


def after(seconds: float) -> Condition:
    """Return what becomes true in so many seconds: where it is to be seen that nothing happens."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end
