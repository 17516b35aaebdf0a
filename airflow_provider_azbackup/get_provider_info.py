"""What Airflow reads about this provider: pure data, no imports beyond the version."""

from __future__ import annotations

from typing import Any

from airflow_provider_azbackup import __version__

_PACKAGE = "airflow_provider_azbackup"
_INTEGRATION = "Azure Backup"


def _text(label: str, description: str) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"]}}


CONNECTION_FIELDS: dict[str, dict[str, Any]] = {
    "tenant_id": _text("Tenant ID", "Microsoft Entra tenant of the service principal."),
    "subscription_id": _text("Subscription ID", "Subscription of the vault."),
    "resource_group_name": _text("Resource group", "Resource group of the vault."),
    "vault_name": _text("Vault", "Vault that tasks use unless they name another."),
    "vault_type": {
        "label": "Vault type",
        "description": "RecoveryServices, or DataProtection for a Backup vault. Default: RecoveryServices.",
        "schema": {"type": ["string", "null"], "enum": ["RecoveryServices", "DataProtection", None]},
    },
    "cloud_environment": {
        "label": "Cloud",
        "description": "Azure cloud: endpoint, authority, token scope and portal. Default: AzurePublicCloud.",
        "schema": {
            "type": ["string", "null"],
            "enum": ["AzurePublicCloud", "AzureUSGovernment", "AzureChinaCloud", "AzureBleuCloud", None],
        },
    },
    "managed_identity_client_id": _text(
        "Managed identity client ID", "Client ID of a user-assigned managed identity."
    ),
    "workload_identity_tenant_id": _text(
        "Workload identity tenant ID", "Tenant of a workload identity (AKS); its client ID goes above."
    ),
    "certificate_path": _text(
        "Certificate path", "PEM or PKCS12 file of the service principal, on every worker and triggerer."
    ),
    "endpoint": _text(
        "ARM endpoint", "Endpoint to use instead of the cloud's: https, or http on a loopback host."
    ),
    "authority": _text("Entra ID authority", "Authority to use instead of the cloud's: https."),
    "scope": _text("Token scope", "Scope to use instead of the cloud's, such as https://<host>/.default."),
    "portal": _text("Portal", "Portal that links lead to, instead of the cloud's: https."),
    "ca_bundle": _text(
        "CA bundle", "PEM file of the certificate authorities to trust instead of the system's."
    ),
    "api_version": _text(
        "API version",
        "REST API version for the vault's type. Default: the one that this package was tested with.",
    ),
    "job_read_share": _text(
        "Share of job reads",
        "Share of Azure's job-read quota that deferred tasks may use (0.01 to 1). The rest is left for "
        "people and other tools. Default: 0.8.",
    ),
}


def _option(description: str, kind: str, default: str, example: str | None = None) -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "example": example,
        "default": default,
    }


# Of what the API server does: the page in Airflow's UI, and the hosts it may use.
OPTIONS: dict[str, dict[str, Any]] = {
    "show_page": _option('Whether "Azure Backup" is under Browse (Airflow 3.1+).', "boolean", "True"),
    "show_tab": _option(
        "Whether task instances have a tab with their backup job (Airflow 3.1 and later).", "boolean", "True"
    ),
    "page_connections": _option(
        "Connections in a secrets backend that the page is to show, separated by commas. Those in Airflow's "
        "database and in the environment of the API server it finds by itself.",
        "string",
        "",
    ),
    "allowed_hosts": _option(
        "Hosts, separated by commas, that a connection may name as its endpoint, authority or portal when "
        "the page or the Test button uses it. Those of the known Azure clouds are always allowed. Nothing is "
        "sent to any other, so that a person who edits a connection cannot direct its secret elsewhere.",
        "string",
        "",
        "management.cloud.example,login.cloud.example:8443",
    ),
}

# The port is unused but stays visible: Airflow 3.3.2's Test button refuses a connection without one.
UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema", "host"],
    "relabeling": {"login": "Client ID", "password": "Client secret"},
    "placeholders": {
        "login": "client ID of a service principal",
        "password": "its secret, or the password of the certificate",
        "port": "443 (unused; Airflow 3.3.2's Test button needs one)",
    },
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata in the form Airflow's provider manager validates."""
    return {
        "package-name": "airflow-provider-azbackup",
        "name": "Azure Backup",
        "description": "Gate tasks on Azure Backup: downstream work runs only after a proven backup.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://learn.microsoft.com/azure/backup/",
                "tags": ["azure"],
            }
        ],
        **{
            kind: [{"integration-name": _INTEGRATION, "python-modules": [f"{_PACKAGE}.{kind}"]}]
            for kind in ("hooks", "operators", "sensors", "triggers")
        },
        "connection-types": [
            {
                "connection-type": "azure_backup",
                "hook-name": "Azure Backup",
                "hook-class-name": f"{_PACKAGE}.hooks.AzureBackupHook",
                "conn-fields": CONNECTION_FIELDS,
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
            }
        ],
        "config": {
            "azure_backup": {
                "description": "The page of Azure Backup in Airflow's UI, and which hosts it may use.",
                "options": OPTIONS,
            }
        },
        "extra-links": [
            f"{_PACKAGE}.links.AzureBackupJobLink",
            f"{_PACKAGE}.links.AzureBackupVaultLink",
        ],
    }
