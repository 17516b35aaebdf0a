"""Azure Resource Graph, as far as it knows backups: vaults, protected items and the jobs of 14 days.

It is a copy that follows the vaults. How late it is, what it leaves out and what it shows twice can be
set. It shows no rows of what the caller may not read, and does not say so.

Source: https://learn.microsoft.com/azure/backup/query-backups-using-azure-resource-graph
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from azure_backup_emulator.arm import kql
from azure_backup_emulator.arm.gateway import Call, Response, Route
from azure_backup_emulator.bodies import instances as instance_bodies
from azure_backup_emulator.bodies import items as item_bodies
from azure_backup_emulator.bodies import jobs as job_bodies
from azure_backup_emulator.bodies.times import clock_duration, moment
from azure_backup_emulator.model.instances import CONFIGURED, BackupVault, Instance
from azure_backup_emulator.model.items import Item, Vault
from azure_backup_emulator.model.jobs import Job, Json
from azure_backup_emulator.model.world import RefusalError

QUERIES, WINDOW = 15, 5.0  # queries of one user in so many seconds
KEPT = 14 * 86400.0
_MOST_ROWS = 1000
# Its pages are so many times as long as those of lists: 1,000 rows unless page_size is configured.
_LONGER = 5
_RECOVERY_SERVICES = "Microsoft.RecoveryServices/vaults"
_DATA_PROTECTION = "Microsoft.DataProtection/backupVaults"
_PROTECTED = f"{_RECOVERY_SERVICES}/backupFabrics/protectionContainers/protectedItems"
_SUPPORT = "Please provide below info when asking for support: timestamp = {}, correlationId = {}."
_THROTTLED = (
    "Client application has been throttled and should not attempt to repeat the request until an amount of "
    "time has elapsed. Please see https://aka.ms/resourcegraph-throttling for help."
)


def query(call: Call) -> Response:
    """Answer a query over the subscriptions that it names, or over all."""
    quota = _spend(call)
    asked = call.request.json()
    options = asked.get("options")
    options = options if isinstance(options, dict) else {}
    try:
        found = kql.read(_text(asked, "query"))
        if found.table not in _TABLES:
            raise ValueError(f"the emulator has no table {found.table!r}, only {', '.join(_TABLES)}")
        if options.get("resultFormat", "objectArray") != "objectArray":
            raise ValueError("the emulator knows the resultFormat objectArray only")
        wanted = asked.get("subscriptions")
        known = [each.lower() for each in call.world.subscriptions]
        subscriptions = {str(each).lower() for each in wanted} if isinstance(wanted, list) else {*known}
        start, top = _place(options), _top(options)
        rows = found.run(_rows(call, found.table, subscriptions))
    except ValueError as error:
        raise _refusal(call, 400, "BadRequest", "InvalidQuery", str(error), quota) from None
    page = rows[start : start + min(top, _LONGER * call.world.page_size)]
    body: Json = {
        "totalRecords": len(rows),
        "count": len(page),
        "resultTruncated": "false",
        "facets": [],
        "data": [{name: row.get(name) for name in found.columns} for row in page],
    }
    if start + len(page) < len(rows):
        body["resultTruncated"] = "true"
        # Only rows with an id can be followed by another page.
        if "id" in found.columns:
            following = f"{start + len(page)}"
            body["$skipToken"] = base64.urlsafe_b64encode(following.encode()).decode()
    return Response(body=body, headers=quota)


def _text(asked: Json, key: str) -> str:
    if isinstance(found := asked.get(key), str) and found.strip():
        return found
    raise ValueError(f"{key} must be a text")


def _top(options: Json) -> int:
    top = options.get("$top", _MOST_ROWS)
    if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= _MOST_ROWS:
        raise ValueError(f"$top must be from 1 to {_MOST_ROWS}")
    return top


def _place(options: Json) -> int:
    token = str(options.get("$skipToken") or "")
    try:
        place = base64.urlsafe_b64decode(token.encode()).decode() if token else "0"
    except ValueError:
        place = ""
    if not (place.isdecimal() and len(place) < 10):
        raise ValueError("the $skipToken is not valid")
    return int(place)


def _spend(call: Call) -> dict[str, str]:
    """Count a query of this user, and return the headers with what is left."""
    window = WINDOW / call.world.speed
    budget = call.arm.graph_budgets.setdefault(call.principal.name, [-math.inf, 0])
    if call.now >= budget[0] + window:
        budget[:] = [call.now, 0]
    budget[1] += 1
    resets = clock_duration(max(1, math.ceil(budget[0] + window - call.now))).partition(".")[0]
    left = QUERIES - int(budget[1])
    headers = {"x-ms-user-quota-remaining": str(max(0, left)), "x-ms-user-quota-resets-after": resets}
    if left < 0:
        raise _refusal(call, 429, "RateLimiting", "RateLimiting", _THROTTLED, headers)
    return headers


def _refusal(
    call: Call, status: int, code: str, detail: str, reason: str, headers: Mapping[str, str]
) -> RefusalError:
    """An error as Resource Graph writes it: the reason is in its details."""
    return RefusalError(
        status=status,
        code=code,
        message=_SUPPORT.format(
            moment(call.now), call.request.headers.get("x-ms-correlation-request-id", "")
        ),
        headers=headers,
        more={"details": [{"code": detail, "message": reason}]},
    )


class _Row(Mapping[str, Any]):
    """A row whose properties are made when a query asks for them, and not for the rows that it leaves out.

    Resource Graph writes types, groups and the providers in ids in lower case.
    """

    def __init__(self, vault: Vault, kind: str, path: str, make: Callable[[], Json]) -> None:
        self._make = make
        self._known: Json = {
            "id": re.sub("/providers/[^/]+/", lambda match: match[0].lower(), path, count=1),
            "name": path.rpartition("/")[2],
            "type": kind.lower(),
            "location": vault.region,
            "resourceGroup": vault.group.lower(),
            "subscriptionId": vault.subscription,
        }

    def __getitem__(self, name: str) -> Any:
        if name in ("properties", "tags") and name not in self._known:
            body = self._make()
            self._known |= {"properties": body["properties"], "tags": body.get("tags")}
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(kql.COLUMNS)

    def __len__(self) -> int:
        return len(kql.COLUMNS)


def _rows(call: Call, table: str, subscriptions: set[str]) -> Iterator[_Row]:
    settings = call.world.resource_graph
    gaps, doubles = settings.get("gaps", 0.0), settings.get("doubles", 0.0)
    hidden = {each.lower() for each in settings.get("hidden", ())}
    at = call.now - settings.get("lag", 0.0) / call.world.speed
    for vault in (*call.world.vaults, *call.world.backup_vaults):
        if vault.subscription.lower() in subscriptions and vault.name.lower() not in hidden:
            for row in _TABLES[table](call, vault, at):
                if not gaps or _chance("gap", row) >= gaps:
                    yield row
                    if doubles and _chance("double", row) < doubles:
                        yield row


def _chance(what: str, row: _Row) -> float:
    """A number from 0 to 1 that stays the same for a row."""
    return int.from_bytes(hashlib.sha256(f"{what} {row['id']}".encode()).digest()[:4], "big") / 2**32


def _vaults(call: Call, vault: Vault, at: float) -> Iterator[_Row]:
    if isinstance(vault, BackupVault):
        kind, make = _DATA_PROTECTION, partial(instance_bodies.vault, vault)
    else:
        kind, make = _RECOVERY_SERVICES, partial(item_bodies.vault, vault)
    if call.principal.may(f"{kind}/read"):
        yield _Row(vault, kind, vault.path, make)


def _backups(call: Call, vault: Vault, at: float) -> Iterator[_Row]:
    if isinstance(vault, BackupVault):
        items, jobs = f"{_DATA_PROTECTION}/backupInstances", f"{_DATA_PROTECTION}/backupJobs"
    else:
        items, jobs = _PROTECTED, f"{_RECOVERY_SERVICES}/backupJobs"
    if call.principal.may(f"{items}/read"):
        for item in call.world.items_in[vault.path]:
            yield _Row(vault, items, item.path, partial(_item, call, item, at))
    if call.principal.may(f"{jobs}/read"):
        for job in call.world.jobs_in(vault):
            if at - KEPT <= job.starts <= at and not job.region:
                yield _Row(vault, jobs, f"{vault.path}/backupJobs/{job.id}", partial(_job, call, job, at))


def _item(call: Call, item: Item, at: float) -> Json:
    protection = call.world.protection_of(item, at)
    if isinstance(item, Instance):
        return instance_bodies.instance(item, protection.state or CONFIGURED)
    history = [job for job in call.history(item) if job.starts <= at]
    return item_bodies.item(item, history, at, protection=protection, base=call.request.base)


def _job(call: Call, job: Job, at: float) -> Json:
    """Return a job as it stood at a moment; that of a job which is over is made once."""
    if job.pinned and job.pinned[1] > at:
        job = replace(job, pinned=None)
    if job.cancelled_at is not None and job.cancelled_at > at:
        job = replace(job, cancelled_at=None)
    ended, vault = job.ended(at), job.item.vault
    key = f"{job.id} {ended} {job.pinned} {job.cancelled_at}"
    if known := call.arm.ended_jobs.get(key):
        return known
    if isinstance(job.item, Instance):
        body = instance_bodies.job(job, at, job.item, vault_path=vault.path, full=False)
    else:
        body = job_bodies.job(job, at, vault_path=vault.path, full=False)
    if ended:
        call.arm.ended_jobs[key] = body
    return body


_TABLES = {"resources": _vaults, "recoveryservicesresources": _backups}
_PATH = "/providers/Microsoft[.]ResourceGraph/resources/?"
# No right is needed: who may read nothing is shown nothing.
RESOURCE_GRAPH = (
    Route(
        "POST",
        re.compile("/providers/Microsoft[.]ResourceGraph/resources/?", re.IGNORECASE),
        "",
        query,
        reads=0,
    ),
)
