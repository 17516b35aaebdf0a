"""The sub-application behind the page: nothing of it answers without a permission of Airflow's user.

=====================================  ==================================================================
Route                                  Permission, besides that to see Airflow's website
=====================================  ==================================================================
``/``, ``/task``, ``/assets/<file>``   none: they hold no data
``/api/connections``                   shows the connections that the user may read, by their ids
``/api/connections/<id>/vault``        to read that connection
``/api/gates``                         to read XComs; shows those of the Dags whose XComs the user may read
``/api/dags/<id>/task``                to read the XComs of that Dag; a job that runs is looked at only where
                                       the user may read a connection to its vault or subscription
=====================================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
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
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from airflow_provider_azbackup import __version__
from airflow_provider_azbackup.core.model.plain import clean
from airflow_provider_azbackup.core.model.progress import PROGRESS
from airflow_provider_azbackup.core.model.resources import JobRef, Vault
from airflow_provider_azbackup.core.settings import Settings
from airflow_provider_azbackup.core.wire import JsonObject, T
from airflow_provider_azbackup.exceptions import AzureBackupConfigError
from airflow_provider_azbackup.links import AzureBackupJobLink
from airflow_provider_azbackup.page import connections, facts, gates, summary
from airflow_provider_azbackup.page.reads import Reads
from airflow_provider_azbackup.runtime import clock
from airflow_provider_azbackup.runtime.portal import job_of, safe_link

_STATIC = Path(__file__).parent / "static"
_SCRIPT, _STYLE = "text/javascript; charset=utf-8", "text/css; charset=utf-8"
# Only what is named here is served.
_ASSETS = MappingProxyType(
    {
        "common.js": ("common.js", _SCRIPT),
        "page.js": ("page.js", _SCRIPT),
        "task.js": ("task.js", _SCRIPT),
        "page.css": ("page.css", _STYLE),
        "uPlot.js": ("uplot/uPlot.iife.min.js", _SCRIPT),
        "uPlot.css": ("uplot/uPlot.min.css", _STYLE),
        "uPlot-LICENSE.txt": ("uplot/LICENSE", "text/plain; charset=utf-8"),
    }
)
# What is not named may not be: no inline script, no other host, no form, no frame around it but Airflow's.
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
# Characters of an id in Airflow's database.
_LONGEST_ID = 250


def make_app(reads: Reads | None = None) -> FastAPI:
    """Build the sub-application.

    :param reads: what it has read from Azure, shared by all who ask.
    """
    reads = reads or Reads()
    app = FastAPI(
        title="Azure Backup",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # On the application, so that no route can be without it.
        dependencies=[Depends(requires_access_view(AccessView.WEBSITE)), Depends(_check_ids)],
    )
    app.add_middleware(_Headers)
    _add_files(app)

    @app.get("/api/connections")
    def list_connections(user: GetUserDep, session: SessionDep) -> JsonObject:
        found = [conn_id for conn_id in connections.ids(session) if _may_read(conn_id, user)]
        return {"connections": [_introduced(conn_id) for conn_id in found]}

    @app.get(
        "/api/connections/{connection_id}/vault",
        dependencies=[Depends(requires_access_connection(method="GET"))],
    )
    async def show_vault(
        connection_id: str,
        session: SessionDep,
        within: Annotated[float, Query(ge=1, le=24 * 31, description="hours")] = 26,
    ) -> JsonObject:
        # Of our own type only: the id of another must not be tried on Azure.
        if connection_id not in await run_in_threadpool(_and_done, session, connections.ids):
            raise HTTPException(404, f"there is no connection {connection_id!r} of type {connections.TYPE}")
        try:
            settings = await run_in_threadpool(connections.settings_of, connection_id)
            vault = _vault_of(settings)
        except Exception as error:  # a secrets backend raises what it likes
            return {"fault": _discreet(error)}
        if vault is None:
            return {"fault": "the connection names no vault, so there is nothing to list"}
        view, now = await reads.vault(settings, vault), clock.current().now()
        late = await run_in_threadpool(summary.overdue, view.items, view.jobs, now=now, within=within * _HOUR)
        return {
            "vault": vault.name,
            "portal": settings.portal_link(vault.path),
            "jobs_portal": settings.portal_link(f"{vault.path}/backupJobs/"),
            "now": now,
            "read_at": view.read_at,
            "next_at": view.next_at,
            "reading": view.reading,
            "fault": view.fault,
            "items_fault": view.items_fault,
            "cut": view.cut,
            "items": len(view.items),
            "jobs": [summary.row(job) for job in view.jobs],
            "overdue": late if view.read_at else [],
        }

    @app.get(
        "/api/gates",
        dependencies=[Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM))],
    )
    def list_gates(user: GetUserDep, session: SessionDep, dag_id: str | None = None) -> JsonObject:
        since = datetime.fromtimestamp(clock.current().now() - summary.WEEK, UTC)
        # Airflow checks the permission for the dag_id in the query, so no other Dag is shown then.
        asked = {each for each in gates.gated_dag_ids(session, since) if dag_id in (None, each)}
        readable = {each for each in asked if _may_read_xcoms(each, user)}
        found, cut = gates.recent(session, readable, since) if readable else ([], False)
        return {"gates": found, "cut": cut}

    @app.get(
        "/api/dags/{dag_id}/task",
        dependencies=[Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM))],
    )
    async def show_task(
        dag_id: str,
        run_id: str,
        task_id: str,
        user: GetUserDep,
        session: SessionDep,
        map_index: Annotated[int, Query(ge=-1, le=2**31 - 1)] = -1,
    ) -> JsonObject:
        def read(session: Session) -> dict[str, Any]:
            return gates.of_task(session, dag_id, run_id, task_id, map_index)

        pushed = await run_in_threadpool(_and_done, session, read)
        link = pushed.get(AzureBackupJobLink.key)
        ref = job_of(link)
        if ref is None:
            return {"job": None}
        job = pushed.get("job")
        if not isinstance(job, dict):
            settings = await run_in_threadpool(_and_done, session, partial(_settings_for, ref, user))
            seen = await reads.job(settings, ref) if settings else None
            job = summary.phases(seen) if seen else None
        return {
            "job": {"job_id": ref.job_id, "vault": ref.vault.name, **facts.job_facts(job)},
            "portal": safe_link(link) or None,
            "progress": facts.scalars(pushed.get(PROGRESS)),
            "recovery_point": facts.scalars(pushed.get("recovery_point")),
            "proof": facts.scalars(pushed.get("proof")),
        }

    return app


def _add_files(app: FastAPI) -> None:
    def page(name: str) -> Callable[[], Response]:
        body = (_STATIC / name).read_text(encoding="utf-8").replace("@version@", __version__)
        return lambda: Response(body, media_type="text/html; charset=utf-8")

    app.get("/", response_class=Response)(page("index.html"))
    app.get("/task", response_class=Response)(page("task.html"))

    @app.get("/assets/{name}", response_class=Response)
    def asset(name: str) -> Response:
        if name not in _ASSETS:
            raise HTTPException(404, "Not found")
        path, kind = _ASSETS[name]
        # They are asked for with the version in the query.
        fresh = {"cache-control": "private, max-age=86400"}
        return Response((_STATIC / path).read_bytes(), media_type=kind, headers=fresh)


def _check_ids(request: Request) -> None:
    """Refuse a text that cannot be an id before the database is asked for it: PostgreSQL raises on a NUL."""
    for text in (*request.path_params.values(), *request.query_params.values()):
        if len(text) > _LONGEST_ID or clean(text) != text:
            raise HTTPException(422, f"an id has at most {_LONGEST_ID} characters and no control characters")


def _may_read(conn_id: str, user: Any) -> bool:
    team = Connection.get_team_name(conn_id)
    details = ConnectionDetails(conn_id=conn_id, team_name=team)
    return bool(get_auth_manager().is_authorized_connection(method="GET", details=details, user=user))


def _may_read_xcoms(dag_id: str, user: Any) -> bool:
    manager = get_auth_manager()
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    # Not every auth manager asks for the right to read the Dag itself when it is asked about a part of it.
    return all(
        manager.is_authorized_dag(method="GET", access_entity=part, details=details, user=user)
        for part in (None, DagAccessEntity.XCOM)
    )


def _introduced(conn_id: str) -> JsonObject:
    try:
        vault = _vault_of(connections.settings_of(conn_id))
        return {"id": conn_id, "vault": vault.name if vault else "", "fault": ""}
    except Exception as error:  # as above
        return {"id": conn_id, "vault": "", "fault": _discreet(error)}


def _vault_of(settings: Settings) -> Vault | None:
    return settings.vault(vault_name=None, resource_group_name=None, subscription_id=None)


def _and_done(session: Session, read: Callable[[Session], T]) -> T:
    """Read from Airflow's database and give the connection to it back: what follows waits for Azure."""
    try:
        return read(session)
    finally:
        session.rollback()


def _settings_for(ref: JobRef, user: Any, session: Session) -> Settings | None:
    """Return a connection that the user may read: to the vault of a job, or else to its subscription.

    A task may name another vault than its connection does.
    """
    near: Settings | None = None
    for conn_id in connections.ids(session):
        if _may_read(conn_id, user):
            with suppress(Exception):  # one that cannot be read leads nowhere
                settings = connections.settings_of(conn_id)
                vault = _vault_of(settings)
                if vault and vault.path.casefold() == ref.vault.path.casefold():
                    return settings
                if settings.subscription_id.casefold() == ref.vault.subscription_id.casefold():
                    near = near or settings
    return near


def _discreet(error: Exception) -> str:
    """Say what is wrong with a connection; what is not ours may hold anything."""
    return str(error) if isinstance(error, AzureBackupConfigError) else f"unreadable: {type(error).__name__}"


class _Headers:
    """Adds what every answer carries, errors among them."""

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
