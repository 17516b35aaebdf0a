"""Which hosts the API server signs in at, asks and links to.

A person who may edit a connection decides where its stored secret is sent. Tasks follow the connection. The
API server, which reads connections for the page and for the Test button, talks only to the hosts of the known
clouds and to those that the deployment lists in ``[azure_backup] allowed_hosts``.
"""

from __future__ import annotations

from types import MappingProxyType
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import conf

from airflow_provider_azbackup.core.settings import CLOUDS, HOST, Settings
from airflow_provider_azbackup.exceptions import AzureBackupConfigError

# Hosts of the known clouds, by the field of a connection that names another one.
_KNOWN = MappingProxyType(
    {
        field: frozenset(urlsplit(getattr(cloud, field)).netloc for cloud in CLOUDS.values()) - {""}
        for field in ("endpoint", "authority", "portal")
    }
)
_OPTION = (
    "allowed_hosts in section [azure_backup] of airflow.cfg (AIRFLOW__AZURE_BACKUP__ALLOWED_HOSTS in the "
    "environment)"
)


def allowed_hosts() -> frozenset[str]:
    """Return the hosts that the deployment lists, as ``host`` or ``host:port`` in lower case.

    :raises AzureBackupConfigError: when an entry is neither.
    """
    text = conf.get("azure_backup", "allowed_hosts", fallback="")
    hosts = [host.strip().lower() for host in text.split(",") if host.strip()]
    if wrong := [host for host in hosts if not HOST.fullmatch(host)]:
        raise AzureBackupConfigError(
            f"{wrong[0]!r} is not a host; expected entries such as login.example or login.example:8443, "
            f"separated by commas. Correct {_OPTION}"
        )
    return frozenset(hosts)


def check_hosts(settings: Settings) -> None:
    """Refuse a connection that names a host which is neither a known cloud's nor listed. Nothing is sent.

    :raises AzureBackupConfigError: naming the field, the host and the option that allows it.
    """
    allowed = allowed_hosts()
    for field, known in _KNOWN.items():
        # Compared as they were written: two parsers may read one odd address as two hosts.
        host = urlsplit(getattr(settings, field)).netloc.lower()
        if host and host not in known | allowed:
            raise AzureBackupConfigError(
                f"nothing is sent to {host!r}, the host of the {field} in connection {settings.conn_id!r}, "
                f"because it belongs to no known cloud. If the deployment trusts it, add it to {_OPTION}"
            )


def known_portal(link: str) -> str:
    """Return the portal that a link leads to, or an empty string when it is not a known or a listed one.

    :param link: an address that anybody may have written.
    """
    try:
        parts = urlsplit(link)
        host = parts.netloc.lower()
        known = parts.scheme == "https" and (host in _KNOWN["portal"] or host in allowed_hosts())
    except (ValueError, AzureBackupConfigError):  # no address, or a list of hosts with a mistake in it
        return ""
    return f"https://{host}" if known else ""
