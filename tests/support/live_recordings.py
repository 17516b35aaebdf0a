"""Holds again what a recording of ``make live`` shows: nothing but the recording says what to expect."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from airflow_provider_azbackup.core.model.jobs import OUTCOMES, Job, Outcome
from airflow_provider_azbackup.core.model.resources import Vault
from airflow_provider_azbackup.core.rest import responses
from tests.support.replay import (
    Conversation,
    Hook,
    Replay,
    operation_of,
    options_of,
    reply_of,
    said,
    serve,
    watch,
)


def replay_jobs(
    path: Path, run: Callable[[Conversation], Any], connect: Callable[..., None], clock: Any
) -> list[Job]:
    """Hold each recorded backup and restore to the end that it had, and return their jobs.

    :param run: holds a conversation through one of the hooks.
    :param connect: makes an endpoint and a vault those of the connection.
    """
    exchanges = json.loads(path.read_text())["exchanges"]
    _read_lists(exchanges)
    jobs, since = [], 0
    for number, exchange in enumerate(exchanges):
        if exchange["request"]["method"] != "POST" or exchange["response"]["status"] != 202:
            continue
        what = urlsplit(exchange["request"]["uri"]).path.rpartition("/")[2]
        if what not in ("backup", "restore"):
            continue
        with contextmanager(serve)(Replay(exchanges[since:], clock)) as replay:
            vault = _vault(exchange)
            connect(
                endpoint=replay.url,
                api_version=_version(exchange),
                vault_name=vault.name,
                resource_group_name=vault.resource_group_name,
                subscription_id=vault.subscription_id,
                vault_type=vault.vault_type,
            )
            job = run(_conversation(exchange, what, clock))
            replay.check()
        recorded = _last_status(exchanges[number:], job.ref.job_id)
        assert (job.status, job.is_running) == (recorded, False), path
        jobs.append(job)
        since = number + 1
    return jobs


def _vault(exchange: dict[str, Any]) -> Vault:
    path = unquote(urlsplit(exchange["request"]["uri"]).path)
    return Vault.parse("/".join(path.split("/")[:9]))


def _version(exchange: dict[str, Any]) -> str:
    return parse_qs(urlsplit(exchange["request"]["uri"]).query)["api-version"][0]


def _conversation(exchange: dict[str, Any], what: str, clock: Any) -> Conversation:
    item = unquote(urlsplit(exchange["request"]["uri"]).path).removesuffix("/backup")
    options = options_of(exchange) if "properties" in exchange["request"]["body"] else {}

    async def hold(hook: Hook) -> Job:
        if what == "backup":
            operation = await said(hook.trigger_backup(item, **options))
        else:
            operation = operation_of(exchange)
        ref = await said(hook.wait_for_operation(operation, what))
        return await watch(hook, ref.path, clock)

    return hold


def _last_status(exchanges: list[dict[str, Any]], job_id: str) -> str:
    found = [
        exchange["response"]["body"]["properties"]["status"]
        for exchange in exchanges
        if urlsplit(exchange["request"]["uri"]).path.endswith(f"/backupJobs/{job_id}")
        and exchange["response"]["status"] == 200
    ]
    return str(found[-1])


def _read_lists(exchanges: list[dict[str, Any]]) -> None:
    """Every job of every list is read, and its status is known."""
    for exchange in exchanges:
        path = urlsplit(exchange["request"]["uri"]).path
        if not path.endswith("/backupJobs") or exchange["response"]["status"] != 200:
            continue
        page = responses.read_page(reply_of(exchange))
        jobs = responses.read_jobs(Vault.parse(unquote(path).removesuffix("/backupJobs")), page)
        assert len(jobs) == len(page.values)
        unknown = {job.status for job in jobs if job.status.casefold() not in OUTCOMES}
        assert not unknown, f"{unknown} in a list; they count as {Outcome.RUNNING}"
