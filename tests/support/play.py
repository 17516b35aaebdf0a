"""Hold a conversation against scripted answers: no sockets, and time passes as the requests ask for."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from airflow_provider_azbackup.core.model.resources import JobRef, OperationRef, ProtectedItem, Vault
from airflow_provider_azbackup.core.wire import Answer, Flow, NoResponse, Request, Response

SAMPLES = Path(__file__).parents[1] / "samples"
START = 1_790_000_000.0

VAULT = Vault(
    subscription_id="11111111-2222-3333-4444-555555555555",
    resource_group_name="vaults-rg",
    name="night-vault",
)
ITEM = ProtectedItem(
    vault=VAULT,
    container="IaasVMContainer;iaasvmcontainerv2;apps-rg;shop-vm",
    name="VM;iaasvmcontainerv2;apps-rg;shop-vm",
)
JOB = JobRef(vault=VAULT, job_id="0f8c2a51-7d3e-4b6a-9c1d-5e2f7a8b9c0d")
OPERATION = OperationRef(vault=VAULT, operation_id="c4d5e6f7-0819-4a2b-8c3d-4e5f60718293")

LOST = NoResponse(reason="the connection was reset", at=0.0)
UNSENT = NoResponse(reason="no such host", at=0.0, sent=False)


def sample(name: str) -> dict[str, Any]:
    """A body of our own writing."""
    body: dict[str, Any] = json.loads((SAMPLES / f"{name}.json").read_text())
    return body


def answered(status: int, body: Any = "", **headers: str) -> Response:
    """An answer with a body, text as it is and anything else as JSON."""
    return Response(
        status=status,
        at=0.0,
        url=f"https://management.azure.com{VAULT.path}/somewhere?api-version=1",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        text=body if isinstance(body, str) else json.dumps(body),
    )


def ok(name: str) -> Response:
    """A sample as a 200."""
    return answered(200, sample(name))


def job_is(status: str, **properties: Any) -> Response:
    """A job that stands so."""
    return answered(200, {"name": JOB.job_id, "properties": {"status": status, **properties}})


@dataclass(frozen=True, kw_only=True)
class Played:
    """A conversation that came to its end, at Unix time ``at``."""

    result: Any
    requests: list[Request]
    at: float

    @property
    def pauses(self) -> list[float]:
        return [request.delay for request in self.requests]


def play(
    flow: Flow[Any], *answers: Answer, then: Answer | None = None, requests: list[Request] | None = None
) -> Played:
    """Answer each request with the next answer, and with ``then`` when they are used up.

    Every answer must be asked for. ``requests`` is filled even when the conversation ends in an error. A
    vault has no Resource Guard unless the first of the answers that are left is about one.
    """
    asked = [] if requests is None else requests
    script, at = list(answers), START
    try:
        request = next(flow)
        while True:
            if request.path.endswith("/backupResourceGuardProxies") and not _is_about_guards(script):
                request = flow.send(replace(answered(200, {"value": []}), at=at))
                continue
            asked.append(request)
            at += request.delay
            answer = script.pop(0) if script else then
            assert answer is not None, f"one request too many: {request}"
            request = flow.send(replace(answer, at=at))
    except StopIteration as end:
        assert not script, f"{len(script)} answers were not asked for"
        return Played(result=end.value, requests=asked, at=at)


def _is_about_guards(script: list[Answer]) -> bool:
    return bool(script) and isinstance(script[0], Response) and "resourceGuard" in script[0].text
