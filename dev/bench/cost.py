"""What waits cost a triggerer's process, over real HTTPS: ours, a client for each wait, one client for all.

Every way waits for the same number of jobs, looks every 20 s, and has all the reads it wants, so all learn of
an end equally soon. Each runs in a process of its own, with few waits and with many; CPU, memory and the
lateness of its event loop are that process's own. Connections and sign-in are real, against the emulator.

    python -m dev.bench.cost [--waits 1000] [--write]

``--write`` puts the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import psutil

from azure_backup_emulator import Emulator
from dev.bench.reads import insert

INTERVAL = 20.0
# Jobs end evenly spread over this time after the start of all waits; by then each wait has had a look.
FIRST_END, LAST_END = 40.0, 80.0
FEW = 2
OVER = {"Completed"}
OURS = "airflow_provider_azbackup"

Seen = Callable[[str], None]


async def ours(given: dict[str, Any], seen: Seen) -> None:
    """The triggers of this provider, as a triggerer runs them."""
    from airflow_provider_azbackup.triggers import AzureBackupJobTrigger

    async def wait(job: str) -> None:
        now = time.time()
        trigger = AzureBackupJobTrigger(
            job_id=f"{given['vault']}/backupJobs/{job}",
            azure_backup_conn_id="azure_backup_default",
            poll_interval=INTERVAL,
            first_pause=15.0,
            deadline=now + 3600,
            since=now,
        )
        async for _ in trigger.run():
            seen(job)

    await asyncio.gather(*map(wait, given["jobs"]))


async def client_for_each(given: dict[str, Any], seen: Seen) -> None:
    """What the Data Factory provider's triggers do: each its own credential and Microsoft's client."""

    async def wait(job: str) -> None:
        async with _credential(given) as credential, _client(given, credential) as client:
            await _look(client, given, job, seen)

    await asyncio.gather(*map(wait, given["jobs"]))


async def one_client(given: dict[str, Any], seen: Seen) -> None:
    """Microsoft's asynchronous client, shared, and a GET for each job."""
    async with _credential(given) as credential, _client(given, credential) as client:
        await asyncio.gather(*(_look(client, given, job, seen) for job in given["jobs"]))


WAYS: dict[str, Callable[[dict[str, Any], Seen], Awaitable[None]]] = {
    "ours": ours,
    "a client for each wait": client_for_each,
    "one client, a GET per job": one_client,
}


def _credential(given: dict[str, Any]) -> Any:
    from azure.identity.aio import ClientSecretCredential

    connection = given["connection"]
    return ClientSecretCredential(
        tenant_id=connection["extra"]["tenant_id"],
        client_id=connection["login"],
        client_secret=connection["password"],
        authority=given["url"],
        disable_instance_discovery=True,
        connection_verify=given["ca"],
    )


def _client(given: dict[str, Any], credential: Any) -> Any:
    from azure.mgmt.recoveryservicesbackup.aio import RecoveryServicesBackupClient

    return RecoveryServicesBackupClient(
        credential,
        subscription_id=given["connection"]["extra"]["subscription_id"],
        base_url=given["url"],
        credential_scopes=["https://management.azure.com/.default"],
        connection_verify=given["ca"],
    )


async def _look(client: Any, given: dict[str, Any], job: str, seen: Seen) -> None:
    while True:
        # As ours: not at once, and every interval after that.
        await asyncio.sleep(INTERVAL)
        found = await client.job_details.get("demo-vault", "demo-rg", job)
        if found.properties.status in OVER:
            seen(job)
            return


def child() -> None:
    """Measure one way, as standard input asks; say what was found on standard output."""
    given = json.load(sys.stdin)
    process, late, most = psutil.Process(), [0.0], 0.0
    seen: dict[str, float] = {}

    async def watchdog() -> None:
        nonlocal most
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.1)
            late.append(time.perf_counter() - began - 0.1)
            most = max(most, process.memory_info().rss / 2**20)

    async def main() -> None:
        watching = asyncio.create_task(watchdog())
        await WAYS[given["way"]](given, lambda job: seen.update({job: time.time()}))
        watching.cancel()

    # Whatever is only imported would be in any triggerer.
    for name in (
        "azure.identity.aio",
        "azure.mgmt.recoveryservicesbackup.aio",
        f"{OURS}.poller",
        f"{OURS}.triggers",
    ):
        import_module(name)

    cpu = time.process_time()
    asyncio.run(main())
    late.sort()
    json.dump(
        {
            "cpu": time.process_time() - cpu,
            "rss": most,
            "late_p99": late[int(0.99 * len(late))],
            "late_max": late[-1],
            "seen": seen,
        },
        sys.stdout,
    )


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one way cost: of one more wait CPU in ms and memory in KiB, delays in s, lateness in ms."""

    way: str
    requests: int
    cpu_ms: float
    memory_kib: float
    p50: float
    p99: float
    late_p99: float
    late_max: float


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a child found, how late it learned of each end, and the requests of all its waits."""

    found: dict[str, Any]
    late: list[float]
    requests: int


def play(way: str, waits: int) -> Run:
    """Let one way wait for so many jobs, in a process of its own, on an emulator of its own."""
    with Emulator(speed=1) as azure:
        azure.configure(job_read_budget=10_000_000, page_size=5000)
        connection = azure.connection()
        spread = (LAST_END - FIRST_END) / waits
        began = time.time()
        ends = {
            azure.start_job("vm-good", seconds=FIRST_END + n * spread): began + FIRST_END + n * spread
            for n in range(waits)
        }
        given = {
            "way": way,
            "connection": connection,
            "url": azure.url,
            "ca": azure.ca_bundle,
            "jobs": list(ends),
            "vault": azure.service.state()["jobs"][0]["item"].partition("/backupFabrics/")[0],
        }
        done = subprocess.run(
            [sys.executable, "-m", "dev.bench.cost", "--child"],
            input=json.dumps(given),
            env={
                **os.environ,
                "AIRFLOW_CONN_AZURE_BACKUP_DEFAULT": json.dumps(connection),
                "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            },
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        late = sorted(found["seen"][job] - end for job, end in ends.items())
        return Run(found=found, late=late, requests=len(azure.requests))


def measure(way: str, waits: int) -> Cost:
    """Let one way wait for few jobs and for many; the few are no burden to the many, so at the same time."""
    with ThreadPoolExecutor() as pool:
        few, many = pool.map(play, (way, way), (FEW, waits))
    return Cost(
        way=way,
        requests=many.requests,
        cpu_ms=(many.found["cpu"] - few.found["cpu"]) / (waits - FEW) * 1000,
        memory_kib=(many.found["rss"] - few.found["rss"]) / (waits - FEW) * 1024,
        p50=many.late[len(many.late) // 2],
        p99=many.late[int(0.99 * len(many.late))],
        late_p99=many.found["late_p99"] * 1000,
        late_max=many.found["late_max"] * 1000,
    )


HEAD = (
    "| way | requests | CPU of a wait / ours | memory of a wait, KiB | delay p50 s | delay p99 s "
    "| loop late p99 ms | loop late at most ms |"
)


def line(cost: Cost, first: Cost) -> str:
    """Return a row of the table; CPU time is another on any machine, its ratio is not."""
    return (
        f"| {cost.way} | {cost.requests} | {cost.cpu_ms / first.cpu_ms:.1f} | {cost.memory_kib:.0f} "
        f"| {cost.p50:.0f} | {cost.p99:.0f} | {cost.late_p99:.0f} | {cost.late_max:.0f} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all ways, one after the other, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m dev.bench.cost", description=__doc__)
    parser.add_argument("--waits", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.child:
        child()
        return
    print(HEAD, flush=True)
    costs: list[Cost] = []
    for way in WAYS:
        costs.append(measure(way, asked.waits))
        print(line(costs[-1], costs[0]), flush=True)
    if asked.write:
        table = [HEAD, "|---" * (HEAD.count("|") - 1) + "|", *(line(cost, costs[0]) for cost in costs)]
        insert("cost", f"{asked.waits} waits:\n\n" + "\n".join(table))


if __name__ == "__main__":
    main()
