"""The settings of a connection, checked and completed: cloud, endpoint, identity, vault.

Source of the clouds: https://learn.microsoft.com/azure/azure-government/documentation-government-developer-guide,
azure-core's AzureClouds, and azure-cli for AzureBleuCloud.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlsplit

from airflow_provider_azbackup.core.model.arm_ids import (
    DATA_PROTECTION,
    RECOVERY_SERVICES,
    VAULT_TYPES,
    vault_type_of,
)
from airflow_provider_azbackup.core.model.resources import Vault
from airflow_provider_azbackup.core.model.validation import check_vault_type, did_you_mean, shown_host
from airflow_provider_azbackup.core.rest.requests import (
    API_VERSION,
    API_VERSIONS,
    RESOURCE_GRAPH,
    RESOURCE_GRAPH_API_VERSION,
)
from airflow_provider_azbackup.exceptions import AzureBackupConfigError

# Share of Azure's job-read quota of a subscription that deferred tasks may use. The rest is left for people
# and other tools.
JOB_READ_SHARE = 0.8


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """The addresses of one Azure cloud. The host of the token scope is not always that of the endpoint.

    ``portal`` is empty if no public page names it. The connection can.
    """

    endpoint: str
    scope: str
    authority: str
    portal: str


CLOUDS = MappingProxyType(
    {
        "AzurePublicCloud": Cloud(
            endpoint="https://management.azure.com",
            scope="https://management.azure.com/.default",
            authority="https://login.microsoftonline.com",
            portal="https://portal.azure.com",
        ),
        "AzureUSGovernment": Cloud(
            endpoint="https://management.usgovcloudapi.net",
            scope="https://management.core.usgovcloudapi.net/.default",
            authority="https://login.microsoftonline.us",
            portal="https://portal.azure.us",
        ),
        "AzureChinaCloud": Cloud(
            endpoint="https://management.chinacloudapi.cn",
            scope="https://management.chinacloudapi.cn/.default",
            authority="https://login.chinacloudapi.cn",
            portal="https://portal.azure.cn",
        ),
        "AzureBleuCloud": Cloud(
            endpoint="https://management.sovcloud-api.fr",
            scope="https://management.sovcloud-api.fr/.default",
            authority="https://login.sovcloud-identity.fr",
            portal="",
        ),
    }
)

# Our names first, then those of connections of type azure that people already have.
EXTRAS = MappingProxyType(
    {
        "tenant_id": ("tenant_id", "tenantId"),
        "guard_tenant_id": ("guard_tenant_id",),
        "subscription_id": ("subscription_id", "subscriptionId"),
        "resource_group_name": ("resource_group_name", "resourceGroup"),
        "vault_name": ("vault_name",),
        "vault_type": ("vault_type",),
        "cloud_environment": ("cloud_environment",),
        "managed_identity_client_id": ("managed_identity_client_id",),
        "workload_identity_tenant_id": ("workload_identity_tenant_id",),
        "certificate_path": ("certificate_path",),
        "endpoint": ("endpoint",),
        "authority": ("authority",),
        "scope": ("scope",),
        "portal": ("portal",),
        "ca_bundle": ("ca_bundle",),
        "api_version": ("api_version",),
        "job_read_share": ("job_read_share",),
        "resource_graph": ("resource_graph",),
    }
)

# Keys of connections of type azure that hold the client id and secret of a service principal, or name a file.
_KEYS = ("key_path", "key_json")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A connection as plain values. Secrets are not part of its ``repr``."""

    conn_id: str
    credential: str
    credential_arguments: Mapping[str, str] = field(repr=False)
    cloud: Cloud
    endpoint: str
    authority: str
    has_own_authority: bool
    scope: str
    portal: str
    tenant_id: str = ""
    subscription_id: str = ""
    resource_group_name: str = ""
    vault_name: str = ""
    vault_type: str = RECOVERY_SERVICES
    ca_bundle: str = ""
    api_version: str = API_VERSION
    job_read_share: float = JOB_READ_SHARE
    resource_graph: bool = False
    guard_tenant_id: str = ""

    @classmethod
    def read(
        cls,
        conn_id: str,
        *,
        conn_type: str | None = "azure_backup",
        login: str | None,
        password: str | None,
        extra: Mapping[str, Any],
    ) -> Settings:
        """Read a connection of type ``azure_backup``, or of ``azure`` as it is.

        :param conn_id: its id, for errors.
        :param conn_type: as Airflow read it.
        :param login: client id of a service principal.
        :param password: its secret, or the password of the certificate.
        :param extra: the connection's extra, already parsed.
        :raises AzureBackupConfigError: with the field, its value and what was expected.
        """
        _check_type_and_keys(conn_id, conn_type, extra)
        given = {name: _first(extra, names) for name, names in EXTRAS.items()}
        cloud_name = given["cloud_environment"] or "AzurePublicCloud"
        if cloud_name not in CLOUDS:
            raise _wrong(conn_id, "cloud_environment", _shown(cloud_name), f"one of {', '.join(CLOUDS)}")
        cloud = CLOUDS[cloud_name]
        vault_type = given["vault_type"] or RECOVERY_SERVICES
        if vault_type not in VAULT_TYPES:
            raise _wrong(conn_id, "vault_type", _shown(vault_type), f"one of {', '.join(VAULT_TYPES)}")
        _check_identities(conn_id, login or "", password or "", given, extra)
        credential, arguments = _credential(conn_id, login or "", password or "", given)
        return cls(
            conn_id=conn_id,
            credential=credential,
            credential_arguments=arguments,
            cloud=cloud,
            endpoint=_safe_url(conn_id, "endpoint", given["endpoint"] or cloud.endpoint),
            authority=_safe_url(conn_id, "authority", given["authority"] or cloud.authority),
            has_own_authority=bool(given["authority"]),
            scope=_scope(conn_id, given["scope"] or cloud.scope),
            portal=_portal(conn_id, given["portal"] or cloud.portal),
            tenant_id=given["tenant_id"],
            subscription_id=given["subscription_id"],
            resource_group_name=given["resource_group_name"],
            vault_name=given["vault_name"],
            vault_type=vault_type,
            ca_bundle=given["ca_bundle"],
            api_version=given["api_version"] or API_VERSIONS[vault_type],
            job_read_share=_share(conn_id, given["job_read_share"]),
            resource_graph=_switch(conn_id, "resource_graph", given["resource_graph"]),
            guard_tenant_id=_guard_tenant(conn_id, given["guard_tenant_id"], credential),
        )

    def version_of(self, path: str) -> str:
        """Return the api-version for a path. That of the connection applies to its own type of vault only."""
        if path == RESOURCE_GRAPH:
            return RESOURCE_GRAPH_API_VERSION
        vault_type = vault_type_of(path)
        return self.api_version if vault_type == self.vault_type else API_VERSIONS[vault_type]

    def vault(
        self,
        *,
        subscription_id: str | None,
        resource_group_name: str | None,
        vault_name: str | None,
        vault_type: str | None = None,
    ) -> Vault | None:
        """Return the vault that a task means; None if none is named. Arguments of the task take precedence.

        :raises AzureBackupConfigError: if a vault is named only in part; the error says what is missing.
        """
        parts = {
            "subscription_id": subscription_id or self.subscription_id,
            "resource_group_name": resource_group_name or self.resource_group_name,
            "vault_name": vault_name or self.vault_name,
        }
        if not parts["vault_name"]:
            return None
        if missing := [name for name, value in parts.items() if not value]:
            raise AzureBackupConfigError(
                f"vault {parts['vault_name']!r} is named without {' and '.join(missing)}; "
                f"give it to the task or in the extra of connection {self.conn_id!r}"
            )
        # The parser finds a name with a slash or a blank, which would otherwise end in a 404.
        vault_type = vault_type or self.vault_type
        check_vault_type(vault_type)
        whole = Vault(
            subscription_id=parts["subscription_id"],
            resource_group_name=parts["resource_group_name"],
            name=parts["vault_name"],
            vault_type=vault_type,
        )
        return Vault.parse(whole.path)

    @property
    def identity(self) -> tuple[tuple[str, str], ...]:
        """The identity, without its secret: tasks with the same identity share what Azure grants it."""
        public = {"tenant_id", "client_id", "certificate_path"}
        who = [(name, value) for name, value in self.credential_arguments.items() if name in public]
        return (("credential", self.credential), *sorted(who))

    @property
    def is_plain_http(self) -> bool:
        """Whether the endpoint is plain http, which only a loopback host may be."""
        return self.endpoint.startswith("http://")

    def portal_link(self, arm_id: str) -> str:
        """Return the Azure portal's page of a vault or a job, in the portal of this cloud.

        A job of a Backup vault has a page of its own. For one of a Recovery Services vault no address is
        documented, so its link has the form that serves any resource.

        :param arm_id: of a vault or a job.
        :returns: the address, or an empty string where the portal of the cloud is not known.
        """
        return portal_link(self.portal, self.tenant_id, arm_id) if self.portal else ""


# Taken from public links to jobs of Backup vaults. The percent-encoded ARM id of the job follows.
JOB_PAGE = "#view/Microsoft_Azure_DataProtection/JobDetailsBlade/jobId/"


def portal_link(portal: str, tenant_id: str, arm_id: str) -> str:
    """Return a portal's page of a vault or a job; see :meth:`Settings.portal_link`.

    :param portal: its address without a path.
    :param tenant_id: may be empty: the portal then takes the tenant of the person who opens the page.
    """
    if "/backupJobs/" in arm_id and vault_type_of(arm_id) == DATA_PROTECTION:
        return f"{portal}/{JOB_PAGE}{quote(arm_id, safe='')}"
    # It is quoted so that a tenant cannot lead to another page of the portal.
    return f"{portal}/#@{quote(tenant_id, safe='')}/resource{arm_id}"


def _check_type_and_keys(conn_id: str, conn_type: str | None, extra: Mapping[str, Any]) -> None:
    """Reject a connection of another type, and unknown keys, which are probably mistakes.

    A connection of type ``azure`` is shared with other providers and may contain their keys.
    """
    if not conn_type:
        # Airflow does not accept an underscore in the scheme of a URI, and drops type, login and password.
        raise AzureBackupConfigError(
            f"connection {conn_id!r} has no type. A URI must begin with azure-backup://, with a dash, "
            f"because Airflow loses the login and the password of one that begins with azure_backup://; "
            f'in JSON, give "conn_type": "azure_backup"'
        )
    if conn_type not in ("azure_backup", "azure"):
        raise AzureBackupConfigError(
            f"connection {conn_id!r} is of type {conn_type!r}; expected azure_backup or azure. Correct its "
            f"type, or name another connection in azure_backup_conn_id"
        )
    if conn_type != "azure_backup":
        return
    known = [name for names in EXTRAS.values() for name in names]
    unknown = [key for key in extra if _short(key) not in known and extra[key] not in (None, "")]
    if unknown:
        raise AzureBackupConfigError(
            f"connection {conn_id!r} has unknown keys in its extra: "
            + ", ".join(f"{key!r}{did_you_mean(_short(key), [*EXTRAS])}" for key in unknown)
            + f". Correct or remove them; known are {', '.join(EXTRAS)}"
        )


def _check_identities(
    conn_id: str, login: str, password: str, given: Mapping[str, str], extra: Mapping[str, Any]
) -> None:
    """Reject a connection that names more than one identity, or one that is not supported."""
    if keys := [name for name in _KEYS if _first(extra, (name,))]:
        raise AzureBackupConfigError(
            f"connection {conn_id!r} has {' and '.join(keys)} in its extra, which this package does not "
            f"read. Create a connection of type azure_backup with the clientId of that key as its login, the "
            f"clientSecret as its password and the tenantId as tenant_id, and name it in azure_backup_conn_id"
        )
    certificate, federated = given["certificate_path"], given["workload_identity_tenant_id"]
    managed = given["managed_identity_client_id"]
    named = {
        "certificate_path": certificate,
        "password (client secret)": not certificate and password,
        "workload_identity_tenant_id": federated,
        "managed_identity_client_id": managed and not federated,
        # Certificate, secret and workload identity belong to the client that the login names.
        "login (client id)": managed and login not in ("", managed),
    }
    several = [name for name, value in named.items() if value]
    if len(several) > 1:
        raise AzureBackupConfigError(
            f"connection {conn_id!r} names more than one identity: {' and '.join(several)}. Keep one of them"
        )


def _credential(
    conn_id: str, login: str, password: str, given: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """Return the name of the azure-identity class, the same for sync and async, and its arguments."""
    tenant = given["tenant_id"]
    managed = given["managed_identity_client_id"]
    federated = given["workload_identity_tenant_id"]
    certificate = given["certificate_path"]
    if certificate or password:
        wanted = {"login (client id)": login, "tenant_id": tenant}
        if missing := [name for name, value in wanted.items() if not value]:
            secret = "certificate_path" if certificate else "password (client secret)"
            raise AzureBackupConfigError(
                f"connection {conn_id!r} has {secret} without {' and '.join(missing)}; a service principal "
                f"needs all"
            )
        who = {"tenant_id": tenant, "client_id": login}
        if certificate:
            lock = {"password": password} if password else {}
            return "CertificateCredential", {**who, "certificate_path": certificate, **lock}
        return "ClientSecretCredential", {**who, "client_secret": password}
    if federated:
        client = managed or login
        return "WorkloadIdentityCredential", {
            "tenant_id": federated,
            **({"client_id": client} if client else {}),
        }
    if managed:
        return "ManagedIdentityCredential", {"client_id": managed}
    if login:
        raise AzureBackupConfigError(
            f"connection {conn_id!r} has a login (client id) but no password (client secret), "
            f"certificate_path or workload_identity_tenant_id; give one, or put a managed identity's client "
            f"id into managed_identity_client_id"
        )
    return "DefaultAzureCredential", {}


# A GUID or a domain.
_TENANT = re.compile(r"[\w.-]{1,200}", re.ASCII)


def _guard_tenant(conn_id: str, tenant: str, credential: str) -> str:
    if tenant and not _TENANT.fullmatch(tenant):
        raise _wrong(conn_id, "guard_tenant_id", _shown(tenant), "the tenant ID of the Resource Guard")
    if tenant and credential == "ManagedIdentityCredential":
        raise AzureBackupConfigError(
            f"connection {conn_id!r} has guard_tenant_id and a managed identity, which gets tokens of its "
            f"own tenant only; use a service principal that both tenants know, or drop guard_tenant_id"
        )
    return tenant


def _share(conn_id: str, text: str) -> float:
    try:
        share = float(text or JOB_READ_SHARE)
    except ValueError:
        share = 0.0
    if not 0.01 <= share <= 1.0:
        raise _wrong(conn_id, "job_read_share", _shown(text), "a number from 0.01 to 1, such as 0.8")
    return share


def _switch(conn_id: str, name: str, text: str) -> bool:
    if text.casefold() not in ("", "true", "false"):
        raise _wrong(conn_id, name, _shown(text), "true or false")
    return text.casefold() == "true"


def _first(extra: Mapping[str, Any], names: tuple[str, ...]) -> str:
    short = {_short(key): extra[key] for key in extra}
    return next((str(short[name]).strip() for name in names if short.get(name)), "")


def _short(key: str) -> str:
    # Forms of older Airflow releases stored a field as extra__<connection type>__<field>.
    return key.rpartition("__")[2] if key.startswith("extra__") else key


# A name, an IPv4 or an IPv6 address, with or without a port. Anything else may be a secret pasted by mistake.
HOST = re.compile(r"([\w.-]+|\[[0-9a-f:.]+\])(:\d+)?", re.IGNORECASE | re.ASCII)


def _safe_url(conn_id: str, name: str, url: str) -> str:
    try:
        parts = urlsplit(url if "//" in url else f"https://{url}")
        # Reading the port also checks it.
        usable = HOST.fullmatch(parts.netloc) and parts.port != 0 and parts.scheme in ("https", "http")
        usable = usable and url.isprintable()  # urlsplit takes tabs and line breaks out, also of a host
    except ValueError:
        usable = False
    if not usable or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise _wrong(conn_id, name, shown_host(url), "https://<host> without a path")
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise _wrong(
            conn_id,
            name,
            shown_host(url),
            "https: plain http, accepted for loopback hosts alone, would show the token",
        )
    return f"{parts.scheme}://{parts.netloc}"


def _scope(conn_id: str, scope: str) -> str:
    if not scope.endswith("/.default") or any(character.isspace() for character in scope):
        raise _wrong(
            conn_id, "scope", shown_host(scope), "the scope of a token, such as https://<host>/.default"
        )
    return scope


def _portal(conn_id: str, url: str) -> str:
    if url.startswith("http://"):
        raise _wrong(conn_id, "portal", shown_host(url), "https://<host> without a path")
    return _safe_url(conn_id, "portal", url) if url else ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


# The words and numbers that an error may show. Anything longer, or a mix of letters and digits, may be a
# secret.
_SHOWN = re.compile(r"[A-Za-z_ -]{0,40}|[\d.,%-]{1,12}")


def _shown(text: str) -> str:
    return text if _SHOWN.fullmatch(text) else "..."


def _wrong(conn_id: str, name: str, value: str, expected: str) -> AzureBackupConfigError:
    return AzureBackupConfigError(
        f"{name} {value!r} in the extra of connection {conn_id!r} cannot be used; expected {expected}"
    )
