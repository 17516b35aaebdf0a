"""Finds and reads the connections that the page may use."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow.models.connection import Connection
from airflow.providers.common.compat.sdk import conf
from sqlalchemy import select

from airflow_provider_azbackup.core.settings import Settings
from airflow_provider_azbackup.runtime.hosts import check_hosts

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

TYPES = ("azure_backup", "azure")
# The connection of a task that names none. The page opens on it.
DEFAULT = "azure_backup_default"
_PREFIX = "AIRFLOW_CONN_"


def ids(session: Session) -> list[str]:
    """Return the ids of connections to Azure in Airflow's database, the environment and the setting.

    A secrets backend cannot list its connections, so ``[azure_backup] page_connections`` names them. The
    default connection comes first, the others in the order of their ids.
    """
    stored = session.scalars(select(Connection.conn_id).where(Connection.conn_type.in_(TYPES)))
    given = (
        name.removeprefix(_PREFIX).lower()
        for name, value in os.environ.items()
        # A name with two underscores is the connection of a team.
        if name.startswith(_PREFIX) and not name.startswith(f"{_PREFIX}_") and _type_of(value) in TYPES
    )
    named = (each.strip() for each in conf.get("azure_backup", "page_connections", fallback="").split(","))
    found = {str(each) for each in (*stored, *given, *named) if each}
    return sorted(found, key=lambda conn_id: (conn_id != DEFAULT, conn_id))


def settings_of(conn_id: str) -> Settings:
    """Read a connection that the API server may use.

    :raises AzureBackupConfigError: when a field is wrong or names a host that is not allowed.
    """
    conn = Connection.get_connection_from_secrets(conn_id)
    settings = Settings.read(
        conn_id,
        conn_type=conn.conn_type,
        login=conn.login,
        password=conn.password,
        extra=conn.extra_dejson,
    )
    check_hosts(settings)
    return settings


def _type_of(value: str) -> str:
    """Return the type of a connection that is given as JSON or as a URI."""
    with suppress(ValueError, AttributeError):
        kind = json.loads(value).get("conn_type") if value.startswith("{") else urlsplit(value).scheme
        return str(kind or "").replace("-", "_").lower()
    return ""
