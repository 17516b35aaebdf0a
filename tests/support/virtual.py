"""Virtual time: an event loop on which hours pass at once, and the emulator on its clock, without sockets."""

from __future__ import annotations

import asyncio
import json
import selectors
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.resources import JobRef, ProtectedItem, Vault
from airflow_provider_azbackup.core.settings import Settings
from airflow_provider_azbackup.core.wire import Answer, NoResponse, Request, Response
from airflow_provider_azbackup.runtime import clock as clocks
from airflow_provider_azbackup.triggerer.hook import TriggererHook
from airflow_provider_azbackup.triggerer.poller import Poller
from azure_backup_emulator.arm import gateway
from azure_backup_emulator.service import Service

T = TypeVar("T")
START = 1_790_000_000.0
HOUR = 3600.0
BASE = "https://management.azure.com"


class _Selector(selectors.DefaultSelector):
    """Instead of waiting for a time, moves the clock there."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout:
            # A hair more: an event loop takes a timer for due within the resolution of its own clock.
            self.now += timeout + 1e-6
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time moves only when all its tasks wait."""

    def __init__(self) -> None:
        self.selector = _Selector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


class LoopClock:
    """The time of a virtual loop, in the form the provider asks for it."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return START + self._loop.time()

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing on the loop may block")

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run(main: Callable[[LoopClock], Awaitable[T]]) -> T:
    """Run ``main(clock)`` on a virtual loop; what it leaves running is a mistake."""
    left: set[asyncio.Task[Any]] = set()

    async def all_of_it() -> T:
        result = await main(clock)
        for _ in range(10):  # what was cancelled takes a moment to end
            await asyncio.sleep(0)
        left.update(asyncio.all_tasks() - {cast("asyncio.Task[Any]", asyncio.current_task())})
        return result

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        clock = LoopClock(cast(VirtualLoop, runner.get_loop()))
        with clocks.running_on(clock):
            result = runner.run(all_of_it())
    assert not left, left
    return result


@dataclass(frozen=True, kw_only=True)
class Read:
    """One read of jobs that reached the emulator."""

    at: float
    path: str
    filter: str
    status: int | None

    @property
    def is_list(self) -> bool:
        return self.path.endswith("/backupJobs")


class Azure:
    """The emulator in the process, reached without sockets.

    :param vaults: how many there are, each with one machine.
    :param machines: how many more there are in the first one.
    :param latency: seconds an answer takes.
    :param settings: of the emulator: ``page_size``, ``job_read_budget``, ``clock_skew``.
    """

    def __init__(
        self,
        clock: clocks.Clock,
        *,
        vaults: int = 1,
        machines: int = 0,
        latency: float = 0.2,
        **settings: Any,
    ) -> None:
        names = [f"vault-{number:02}" for number in range(vaults)]
        places = [
            *((f"vm-{name}", name) for name in names),
            *((f"vm-{number:03}", names[0]) for number in range(machines)),
        ]
        self.clock, self.latency = clock, latency
        self.service = Service(
            clock=clock.now,
            speed=1,
            seed={
                "vaults": [{"name": name, "group": "rg"} for name in names],
                "items": [
                    {"kind": "VM", "name": name, "group": "rg", "vault": vault} for name, vault in places
                ],
            },
        )
        self.service.configure(**settings)
        self.vaults = [Vault.parse(vault.path) for vault in self.service.world.vaults]
        self.reads: list[Read] = []
        # Reads of operations.
        self.polls = 0
        # When Resource Graph was asked.
        self.queries: list[float] = []
        self.opened = self.closed = 0
        # Asked before each answer; whatever it returns is answered instead.
        self.instead: Callable[[Request], Answer | None] = lambda _: None

    def start(self, machine: int = 0, *, ago: float = 0.0, **job: Any) -> JobRef:
        """Start a job; ``job`` are ``seconds``, ``ending``, ``visible_after`` and other fields of it.

        :param machine: the first ones are those of each vault, in their order.
        """
        world = self.service.world
        started = world.start(world.items[machine], self.service.clock() - ago, "Backup", **job)
        return JobRef(vault=Vault.parse(world.items[machine].vault.path), job_id=started.id)

    def machine(self, number: int) -> ProtectedItem:
        """Return a machine by its number."""
        return ProtectedItem.parse(self.service.world.items[number].path)

    def end_of(self, ref: JobRef) -> float:
        """When a job ends, by our clock."""
        return self.service.world.jobs[ref.job_id].finish()[0] - self.service.skew

    def forget(self, ref: JobRef) -> None:
        """Delete a job."""
        world = self.service.world
        job = world.jobs.pop(ref.job_id)
        world.jobs_in(job.item.vault).remove(job)

    def hook(self, **extra: Any) -> Hook:
        self.opened += 1
        return Hook(self, extra)

    def per_hour(self) -> dict[int, int]:
        """How many reads there were in each hour since the beginning."""
        return Counter(int((read.at - START) // HOUR) for read in self.reads)

    @property
    def throttled(self) -> int:
        return sum(read.status == 429 for read in self.reads)

    @property
    def lists(self) -> list[Read]:
        return [read for read in self.reads if read.is_list]

    @property
    def looks(self) -> list[Read]:
        return [read for read in self.reads if not read.is_list]

    async def answer(self, call: Request) -> Answer:
        await asyncio.sleep(self.latency)
        if instead := self.instead(call):
            status = instead.status if isinstance(instead, Response) else None
            self._note(call, status)
            return instead
        found = self._answer(call)
        self._note(call, found.status if isinstance(found, Response) else None)
        return found

    def _note(self, call: Request, status: int | None) -> None:
        if "/backupOperations/" in call.path:
            self.polls += 1
        if "ResourceGraph" in call.path:
            self.queries.append(self.clock.now())
        if "/backupJobs" not in call.path:
            return
        wanted = dict(call.query).get("$filter", "")
        self.reads.append(Read(at=self.clock.now(), path=call.path, filter=wanted, status=status))

    def _answer(self, call: Request) -> Answer:
        now, service = self.clock.now(), self.service
        ask = gateway.Request(
            method=call.method,
            path=call.path,
            query={"api-version": "2026-07-01", **dict(call.query)},
            headers={},
            body=json.dumps(call.body).encode() if call.body else b"",
            base=BASE,
        )
        principal = service.identity.principals["operator"]
        query = "&".join(f"{key}={value}" for key, value in call.query)
        fault = service.fault_for(ask, f"{call.path}?{query}")
        if fault and (fault.reset or fault.truncate):
            return NoResponse(reason="the connection broke", at=now)
        if fault and fault.replaces:
            answer = service.fault_response(fault, ask)
        else:
            # As Service.answer does, but for the token.
            service.identity.check = lambda *_: (principal, {})  # type: ignore[method-assign]  # tokens are others' tests
            answer = service.answer(ask)
            if fault and fault.next_link and "value" in (answer.body or {}):
                answer.body["nextLink"] = f"{fault.next_link}{call.path}?$skipToken=elsewhere"
        body = answer.body
        return Response(
            status=answer.status,
            at=now,
            url=BASE + call.path,
            headers={name.lower(): value for name, value in answer.headers.items()},
            text=body.decode() if isinstance(body, bytes) else "" if body is None else json.dumps(body),
        )


class Hook:
    """What the poller uses of :class:`TriggererHook`."""

    def __init__(self, azure: Azure, extra: dict[str, Any]) -> None:
        self.azure = azure
        self.settings = Settings.read("azure", login="app", password="-", extra={"tenant_id": "t", **extra})

    async def read(self, call: Request) -> Answer:
        return await self.azure.answer(call)

    async def __aexit__(self, *_: object) -> None:
        self.azure.closed += 1


def poller(azure: Azure, queues: dict[Any, Any] | None = None, **extra: Any) -> Poller:
    """A poller on the emulator; ``queues`` are those of its triggerer, ``extra`` is its connection's."""
    hook = cast(TriggererHook, azure.hook(**extra))
    return Poller(hook, azure.clock, {} if queues is None else queues, Context())


@dataclass
class Wait:
    """One wait: how it went."""

    ref: JobRef
    notices: list[tuple[float, Any, Any]]
    ended: float = 0.0
    job: Job | None = None
    error: BaseException | None = None

    @property
    def status(self) -> str | None:
        return self.job.status if self.job else None


async def wait_for(shared: Poller, clock: LoopClock, ref: JobRef, **options: Any) -> Wait:
    """Wait for a job as a trigger does; errors are part of how it went."""
    now = clock.now()
    wait = Wait(ref, [])
    try:
        wait.job = await shared.watch_job(
            ref,
            on_read=lambda job, fault: wait.notices.append((clock.now(), job, fault)),
            **{
                "poll_interval": 60.0,
                "deadline": now + 24 * HOUR,
                "since": now,
                "first_pause": 15.0,
                **options,
            },
        )
    except Exception as error:
        wait.error = error
    wait.ended = clock.now()
    return wait


async def settle() -> None:
    """Let end what was cancelled; a question to Airflow is never taken back, so it takes a moment."""
    for _ in range(100_000):
        if len(asyncio.all_tasks()) == 1:
            break
        await asyncio.sleep(0)


async def hang_up() -> None:
    """Let connections come to their ends that were broken off in the middle of an answer."""
    loop: Any = asyncio.get_running_loop()
    for _ in range(1000):
        if len(loop._selector.get_map()) == 1:  # the loop's own
            break
        await asyncio.sleep(0.005)
