"""The sub-application of the page. Every route that returns data checks a permission of Airflow's user.

=====================================  ==================================================================
Route                                  Permission, in addition to access to Airflow's website
=====================================  ==================================================================
``/``, ``/task``, ``/assets/<file>``   none, because they hold no data
``/api/connections``                   lists only the connections that the user may read
``/api/connections/<id>/vaults``       read that connection
``/api/connections/<id>/vault``        read that connection
``/api/gates``                         read XComs; lists only Dags whose XComs the user may read
``/api/dags/<id>/task``                read the XComs of that Dag; a running job is read from Azure only if
                                       the user may read a connection to its vault or subscription
=====================================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import (
    AccessView,
    ConnectionDetails,
    DagAccessEntity,
    DagDetails,
)
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import (
    GetUserDep,
    requires_access_connection,
    requires_access_dag,
    requires_access_view,
)
from airflow.models.connection import Connection
from airflow.models.dag import DagModel
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from airflow_provider_azbackup import __version__
from airflow_provider_azbackup.core.estate import VERDICT
from airflow_provider_azbackup.core.model.json_safe import clean
from airflow_provider_azbackup.core.model.progress import PROGRESS
from airflow_provider_azbackup.core.model.resources import JobRef, Vault
from airflow_provider_azbackup.core.settings import Settings
from airflow_provider_azbackup.core.wire import JsonObject, T
from airflow_provider_azbackup.exceptions import AzureBackupConfigError
from airflow_provider_azbackup.links import AzureBackupJobLink
from airflow_provider_azbackup.page import connections, facts, gates, summary
from airflow_provider_azbackup.page.reads import Reads, View
from airflow_provider_azbackup.runtime import clock
from airflow_provider_azbackup.runtime.portal import job_of, safe_link

_STATIC = Path(__file__).parent / "static"
_HTML, _SCRIPT, _STYLE = (f"text/{name}; charset=utf-8" for name in ("html", "javascript", "css"))
_SCRIPTS = (
    *("common.js", "history.js", "model.js", "overview.js", "page.js", "tables.js", "task.js", "time.js"),
    *("timeline.js", "verdict.js"),
)
# Only the files in this table are served.
_ASSETS = MappingProxyType(
    {
        **{name: (name, _SCRIPT) for name in _SCRIPTS},
        "page.css": ("page.css", _STYLE),
        "icon.svg": ("icon.svg", "image/svg+xml"),
        "icon-dark.svg": ("icon-dark.svg", "image/svg+xml"),
        "uPlot.js": ("uplot/uPlot.iife.min.js", _SCRIPT),
        "uPlot.css": ("uplot/uPlot.min.css", _STYLE),
        "uPlot-LICENSE.txt": ("uplot/LICENSE", "text/plain; charset=utf-8"),
    }
)
# The policy forbids inline scripts, other hosts and forms, and only Airflow may show the page in a frame.
HEADERS = MappingProxyType(
    {
        "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "same-origin",
        "x-content-type-options": "nosniff",
        "x-frame-options": "SAMEORIGIN",
    }
)
_HOUR = 3600.0
# Airflow's database stores ids of at most so many characters. ARM ids of vaults may be longer.
_LONGEST_ID, _LONGEST_ARM_ID = 250, 400


def make_app() -> FastAPI:
    """Build the sub-application. All who use it share what it reads from Azure."""
    app = FastAPI(
        title="Azure Backup",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # On the application, so that no route can lack them.
        dependencies=[Depends(requires_access_view(AccessView.WEBSITE)), Depends(_check_ids)],
    )
    app.state.reads = Reads()
    app.add_middleware(_Headers)
    app.include_router(_router)
    return app


def _reads(request: Request) -> Reads:
    reads: Reads = request.app.state.reads
    return reads


_router = APIRouter()
ReadsDep = Annotated[Reads, Depends(_reads)]
_READS_XCOMS = Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM))


async def _check_type(connection_id: str, session: SessionDep) -> None:
    """Refuse connections of other types, because their secrets must not be sent to Azure."""
    if connection_id not in await run_in_threadpool(_and_release, session, connections.ids):
        types = " or ".join(connections.TYPES)
        raise HTTPException(404, f"There is no connection {connection_id!r} of type {types}.")


_READS_CONNECTION = (Depends(requires_access_connection(method="GET")), Depends(_check_type))


@_router.get("/", response_class=Response)
def page() -> Response:
    """Return the page."""
    return Response(_text("index.html"), media_type=_HTML)


@_router.get("/task", response_class=Response)
def tab() -> Response:
    """Return the tab of a task instance."""
    return Response(_text("task.html"), media_type=_HTML)


@_router.get("/assets/{name}", response_class=Response)
def asset(name: str) -> Response:
    """Return a script, a style sheet or a license."""
    if name not in _ASSETS:
        raise HTTPException(404, "Not found")
    path, media_type = _ASSETS[name]
    # Pages and scripts ask for it with the version in the query, so a browser may keep it.
    headers = {"cache-control": "private, max-age=86400"}
    return Response(_text(path), media_type=media_type, headers=headers)


@_router.get("/api/connections")
def list_connections(user: GetUserDep, session: SessionDep, reads: ReadsDep) -> JsonObject:
    """Return the connections that the user may read, the default first, each with what is known of its vault.

    Azure is not asked.
    """
    readable = [conn_id for conn_id in connections.ids(session) if _may_read(conn_id, user)]
    return {"connections": [_connection_facts(conn_id, reads) for conn_id in readable]}


@_router.get("/api/connections/{connection_id}/vaults", dependencies=_READS_CONNECTION)
async def list_vaults(connection_id: str, reads: ReadsDep) -> JsonObject:
    """Return the vaults in the connection's subscription, each with what is known of its last night."""
    try:
        settings = await run_in_threadpool(connections.settings_of, connection_id)
        own = _vault_of(settings)
    except Exception as error:  # a secrets backend may raise anything
        return {"vaults": [], "fault": _public_text(error), "reading": False}
    found = await reads.vaults(settings)
    listed, fault = found or ((), "")
    vaults = {vault.path.casefold(): vault for vault in (*([own] if own else []), *listed)}
    return {
        "vaults": [_vault_facts(settings, vault, reads) for vault in vaults.values()],
        "fault": fault,
        "reading": found is None,
    }


@_router.get("/api/connections/{connection_id}/vault", dependencies=_READS_CONNECTION)
async def show_vault(
    connection_id: str,
    reads: ReadsDep,
    within: Annotated[float, Query(ge=1, le=24 * 31, description="hours")] = 26,
    vault: Annotated[str | None, Query(description="ARM id; the connection's vault by default")] = None,
    brief: Annotated[bool, Query(description="only how the last night went")] = False,
) -> JsonObject:
    """Return the jobs of a vault as the connection sees them, and what is overdue there."""
    try:
        settings = await run_in_threadpool(connections.settings_of, connection_id)
        shown = Vault.parse(vault) if vault else _vault_of(settings)
    except Exception as error:  # a secrets backend may raise anything
        return {"fault": _public_text(error)}
    if shown is None:
        return {"fault": "The connection does not name a vault, so there are no jobs to list."}
    view, now = await reads.vault(settings, shown), clock.current().now()
    answer = {
        **_vault_facts(settings, shown, reads),
        "now": now,
        "read_at": view.read_at,
        "next_at": view.next_at,
        "reading": view.reading,
        "fault": view.fault,
        "items_fault": view.items_fault,
        "cut": view.cut,
        "items": len(view.items),
    }
    if brief:
        return answer
    overdue = await run_in_threadpool(summary.overdue, view.items, view.jobs, now=now, within=within * _HOUR)
    return {
        **answer,
        "portal": settings.portal_link(shown.path),
        "jobs_portal": settings.portal_link(f"{shown.path}/backupJobs/"),
        "jobs": await run_in_threadpool(summary.rows, view.jobs),
        "overdue": overdue if view.read_at else [],
    }


@_router.get("/api/gates", dependencies=[_READS_XCOMS])
def list_gates(user: GetUserDep, session: SessionDep, dag_id: str | None = None) -> JsonObject:
    """Return the tasks that have waited for a job in the last week, what fleet sensors report, and drills."""
    after = datetime.fromtimestamp(clock.current().now() - summary.WEEK, UTC)
    # With a dag_id in the query, Airflow has checked the permission for that Dag only.
    asked = {each for each in gates.gated_dag_ids(session, after) if dag_id in (None, each)}
    readable = {each for each in asked if _may_read_xcoms(each, user)}
    found, cut = gates.recent(session, readable, after) if readable else ([], False)
    verdicts = gates.verdicts(session, readable, after) if readable else []
    drills = gates.drills(session, readable, after) if readable else []
    return {"gates": found, "cut": cut, "verdicts": verdicts, "drills": drills}


@_router.get("/api/dags/{dag_id}/task", dependencies=[_READS_XCOMS])
async def show_task(
    dag_id: str,
    run_id: str,
    task_id: str,
    user: GetUserDep,
    session: SessionDep,
    reads: ReadsDep,
    map_index: Annotated[int, Query(ge=-1, le=2**31 - 1)] = -1,
) -> JsonObject:
    """Return how a task instance stands, and its job; ``job`` is None when it has none."""
    now = clock.current().now()

    def read(session: Session) -> tuple[dict[str, Any], JsonObject]:
        which = (dag_id, run_id, task_id, map_index)
        return gates.of_task(session, *which), gates.state_of(session, *which, now=now)

    pushed, task = await run_in_threadpool(_and_release, session, read)
    verdict = facts.verdict(pushed.get(VERDICT))
    link = pushed.get(AzureBackupJobLink.key)
    ref = job_of(link)
    if ref is None:
        clear = summary.after_clear(task.get("operator", ""), {}, (), now=now, read_at=None)
        return {"job": None, "task": task, "clear": clear, "verdict": verdict}
    settings = await run_in_threadpool(_and_release, session, partial(_settings_for, ref, user))
    job = pushed.get("job")
    if not isinstance(job, dict):
        running = await reads.job(settings, ref) if settings else None
        job = summary.phases(running) if running else None
    shown = {**facts.job_facts(job), "job_id": ref.job_id, "vault": ref.vault.name}
    view = reads.known(settings, ref.vault) if settings else View()
    return {
        "job": shown,
        "task": task,
        "clear": summary.after_clear(
            task.get("operator", ""), shown, view.jobs, now=now, read_at=view.read_at
        ),
        "listed_at": view.read_at,
        "verdict": verdict,
        "portal": safe_link(link) or None,
        "progress": facts.scalars(pushed.get(PROGRESS)),
        "recovery_point": facts.scalars(pushed.get("recovery_point")),
        "proof": facts.scalars(pushed.get("proof")),
    }


@cache
def _text(path: str) -> str:
    return (_STATIC / path).read_text(encoding="utf-8").replace("@version@", __version__)


def _check_ids(request: Request) -> None:
    """Reject a text that cannot be an id before it reaches the database. PostgreSQL fails on a NUL."""
    for name, text in (*request.path_params.items(), *request.query_params.items()):
        longest = _LONGEST_ARM_ID if name == "vault" else _LONGEST_ID
        if len(text) > longest or clean(text) != text:
            raise HTTPException(422, f"An ID has at most {longest} characters and no control characters.")


def _may_read(conn_id: str, user: Any) -> bool:
    team = Connection.get_team_name(conn_id)
    details = ConnectionDetails(conn_id=conn_id, team_name=team)
    return bool(get_auth_manager().is_authorized_connection(method="GET", details=details, user=user))


def _may_read_xcoms(dag_id: str, user: Any) -> bool:
    manager = get_auth_manager()
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    # Not every auth manager checks the right to read the Dag when it is asked about a part of the Dag.
    return all(
        manager.is_authorized_dag(method="GET", access_entity=part, details=details, user=user)
        for part in (None, DagAccessEntity.XCOM)
    )


def _connection_facts(conn_id: str, reads: Reads) -> JsonObject:
    try:
        settings = connections.settings_of(conn_id)
        vault = _vault_of(settings)
        return {"id": conn_id, "vault": vault and _vault_facts(settings, vault, reads), "fault": ""}
    except Exception as error:  # a secrets backend may raise anything
        return {"id": conn_id, "vault": None, "fault": _public_text(error)}


def _vault_facts(settings: Settings, vault: Vault, reads: Reads) -> JsonObject:
    night, at = reads.night(settings, vault)
    return {
        "vault": vault.name,
        "vault_id": vault.path.casefold(),
        "arm_id": vault.path,
        "group": vault.resource_group_name,
        "night": night,
        "night_at": at,
    }


def _vault_of(settings: Settings) -> Vault | None:
    return settings.vault(vault_name=None, resource_group_name=None, subscription_id=None)


def _and_release(session: Session, read: Callable[[Session], T]) -> T:
    """Read from Airflow's database and release the connection to it, because what follows waits for Azure."""
    try:
        return read(session)
    finally:
        session.rollback()


def _settings_for(ref: JobRef, user: Any, session: Session) -> Settings | None:
    """Return a connection that the user may read: to the vault of a job, or else to its subscription.

    The connection of a task may name another vault than the task does.
    """
    of_subscription: Settings | None = None
    for conn_id in connections.ids(session):
        if _may_read(conn_id, user):
            with suppress(Exception):  # a connection that cannot be read is of no use here
                settings = connections.settings_of(conn_id)
                vault = _vault_of(settings)
                if vault and vault.path.casefold() == ref.vault.path.casefold():
                    return settings
                if settings.subscription_id.casefold() == ref.vault.subscription_id.casefold():
                    of_subscription = of_subscription or settings
    return of_subscription


def _public_text(error: Exception) -> str:
    """Return what a user may see of an error about a connection. Only errors of ours hold no secrets."""
    if isinstance(error, AzureBackupConfigError):
        return str(error)
    return f"The connection cannot be read ({type(error).__name__})."


class _Headers:
    """Adds the headers that every response has, errors included."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with(message: Any) -> None:
            if message["type"] == "http.response.start":
                named = {name.lower() for name, _ in message["headers"]}
                extra = {"cache-control": "no-store", **HEADERS}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.encode(), value.encode())
                        for name, value in extra.items()
                        if name.encode() not in named
                    ),
                ]
            await send(message)

        await self._app(scope, receive, send_with)
