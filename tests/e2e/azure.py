"""The emulator as a process of its own: it can be killed, and started again where it was."""

from __future__ import annotations

import http.client
import json
import secrets
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from azure_backup_emulator.seed import DEFAULT
from dev.stack.airflow_api import Json
from dev.stack.pace import Limit
from dev.stack.stack import end, free_port
from tests.e2e.evidence import ANNOUNCED, REQUESTS


class Azure:
    """The emulator, running while the ``with`` block lasts.

    :param directory: where it keeps what it must know after a kill.
    :param speed: emulated seconds in a real one.
    :param spare: how many vaults there are for single runs, each with one machine of its own name.
    :param principals: who may sign in, with their secrets; those of the seed by default, with new secrets.
    """

    def __init__(
        self, *, directory: Path, speed: float, spare: int, principals: dict[str, Json] | None = None
    ) -> None:
        self.directory = directory
        self.speed = speed
        self.port = free_port()
        self.url = f"https://localhost:{self.port}"
        self.principals = principals or {
            name: {**principal, "secret": secrets.token_urlsafe(24)}
            for name, principal in DEFAULT["principals"].items()
        }
        self.wrong_secret = secrets.token_urlsafe(24)
        self.spare_vaults = [f"spare-{number:02}" for number in range(1, spare + 1)]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        vaults = [{"name": name, "group": "demo-rg"} for name in self.spare_vaults]
        machines = [
            {"kind": "VM", "name": name, "group": "demo-vms", "vault": name} for name in self.spare_vaults
        ]
        seed = {
            "principals": self.principals,
            "vaults": [*DEFAULT["vaults"], *vaults],
            "items": [*DEFAULT["items"], *machines],
        }
        (self.directory / "seed.json").write_text(json.dumps(seed))
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process:
            with suppress(OSError):
                self._keep_requests()
            end([self._process], within=10.0)

    def start(self) -> None:
        """Start it, where it was when it was killed, and wait until it answers."""
        options = {
            "--directory": self.directory,
            "--port": self.port,
            "--speed": self.speed,
            "--seed": self.directory / "seed.json",
        }
        arguments = [str(word) for option in options.items() for word in option]
        with (self.directory / "emulator.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "azure_backup_emulator", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        limit = Limit(30)
        while True:
            try:
                self._enrich()
                return
            except OSError:
                assert self._process.poll() is None, self.log()
                assert not limit.is_over, self.log()
                time.sleep(0.1)

    def kill(self) -> None:
        """End it as a crash would: for its clients, an outage of Azure."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def log(self) -> str:
        """Return what it printed, but for the connection it offers to its user."""
        lines = (self.directory / "emulator.log").read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if ANNOUNCED not in line)

    def connection(self, principal: str = "operator") -> Json:
        """Return the Airflow connection of a principal."""
        ready = json.loads((self.directory / "connection.json").read_text())
        who = self.principals[principal]
        return {**ready, "login": who["client_id"], "password": who["secret"]}

    def plan(self, item: str, **plan: Any) -> None:
        """Decide how the next and later jobs of an item go."""
        self._ask("plan", {"item": item, **plan})

    def start_job(self, item: str, **options: Any) -> str:
        """Start somebody else's job of an item and return its id."""
        return str(self._ask("start_job", {"item": item, **options})["job_id"])

    def start_jobs(self, items: list[str], **options: Any) -> None:
        """Start somebody else's jobs of many items, over one connection."""
        context = ssl.create_default_context(cafile=str(self.directory / "ca.pem"))
        line = http.client.HTTPSConnection("localhost", self.port, context=context, timeout=30)
        with closing(line):
            for item in items:
                line.request("POST", "/_emulator/start_job", json.dumps({"item": item, **options}))
                answer = line.getresponse()
                assert answer.status == 200, answer.read()
                answer.read()

    def set_status(self, job_id: str, status: str | None) -> None:
        """Pin a job to a status word."""
        self._ask("set_status", {"job_id": job_id, "status": status})

    def fault(self, **spec: Any) -> None:
        """Let coming requests meet trouble."""
        self._ask("fault", spec)

    def clear_faults(self) -> None:
        self._ask("clear", {})

    def configure(self, **settings: Any) -> None:
        self._ask("configure", settings)

    def reset(self) -> None:
        """Back to the state at start; secrets and tokens stay valid."""
        self._keep_requests()
        self._ask("reset", {})
        self._enrich()

    def _enrich(self) -> None:
        """Grant reads without end: tasks look every three seconds here, not every minute."""
        self.configure(job_read_budget=1_000_000)

    def _keep_requests(self) -> None:
        """Write down what was asked since the last reset, so that a failed test can be explained."""
        with (self.directory / REQUESTS).open("a") as file:
            file.writelines(json.dumps(each) + "\n" for each in self.requests)

    def state(self) -> Json:
        """Return the clock and the jobs as they stand."""
        return dict(self._ask("state"))

    @property
    def requests(self) -> list[Json]:
        """What was asked so far, oldest first."""
        return self.find()

    def find(self, **wanted: str) -> list[Json]:
        """Return the requests of a ``method``, or with ``path_contains`` in their path, oldest first."""
        return list(self._ask(f"requests?{urlencode(wanted)}"))

    def count(self, *, method: str, path_contains: str) -> int:
        """How many requests had this method and this in their path, ignoring case."""
        return len(self.find(method=method, path_contains=path_contains))

    def _ask(self, name: str, body: Json | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        context = ssl.create_default_context(cafile=str(self.directory / "ca.pem"))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(
                urllib.request.Request(f"{self.url}/_emulator/{name}", data=data), timeout=30
            ) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"the emulator refused {name} {body}: {error.read().decode()}") from None
