"""The metadata that Airflow reads about this provider. It is plain data and imports only the version."""

from __future__ import annotations

from typing import Any

from airflow_provider_azbackup import __version__

_PACKAGE = "airflow_provider_azbackup"
_INTEGRATION = "Azure Backup"


def _text(label: str, description: str) -> dict[str, Any]:
    """Return a field that starts empty; without a default, Airflow saves "null" in the extra."""
    schema = {"type": ["string", "null"], "default": ""}
    return {"label": label, "description": description, "schema": schema}


def _choice(label: str, description: str, *values: str) -> dict[str, Any]:
    """Return a drop-down list that starts at its first value; without a default, Airflow saves "null"."""
    schema = {"type": ["string", "null"], "enum": [*values], "default": values[0]}
    return {"label": label, "description": description, "schema": schema}


# What people set in a form. docs/connections.md has the other keys of the extra, such as `job_read_share`.
CONNECTION_FIELDS: dict[str, dict[str, Any]] = {
    "tenant_id": _text("Tenant ID", "Microsoft Entra tenant of the service principal."),
    "subscription_id": _text("Subscription ID", "Azure subscription of the vault."),
    "resource_group_name": _text("Resource group", "Resource group of the vault."),
    "vault_name": _text("Vault name", "Vault to use when a task does not name one."),
    "vault_type": _choice(
        "Vault type",
        "RecoveryServices for a Recovery Services vault, DataProtection for a Backup vault.",
        "RecoveryServices",
        "DataProtection",
    ),
    "cloud_environment": _choice(
        "Azure cloud",
        "Sets the Azure Resource Manager endpoint, the sign-in authority, the token scope and the portal.",
        "AzurePublicCloud",
        "AzureUSGovernment",
        "AzureChinaCloud",
        "AzureBleuCloud",
    ),
    "managed_identity_client_id": _text(
        "Managed identity client ID", "Client ID of a user-assigned managed identity."
    ),
    "workload_identity_tenant_id": _text(
        "Workload identity tenant ID",
        "Microsoft Entra tenant of a workload identity (AKS). Enter its client ID in the Client ID field.",
    ),
    "certificate_path": _text(
        "Certificate path",
        "PEM or PKCS12 file with the certificate of the service principal. The file must exist on every "
        "worker and triggerer.",
    ),
    "endpoint": _text(
        "Resource Manager endpoint",
        "Overrides the endpoint of the cloud, for example https://management.azure.com. It must use https; "
        "only a loopback address may use http.",
    ),
    "scope": _text(
        "Token scope",
        "Overrides the token scope of the cloud, for example https://management.azure.com/.default.",
    ),
    "portal": _text(
        "Portal URL", "Overrides the portal of the cloud in links, for example https://portal.azure.com."
    ),
    "ca_bundle": _text(
        "CA bundle", "PEM file with the certificate authorities to trust instead of the system's."
    ),
    "resource_graph": _choice(
        "Ask Resource Graph",
        "true lets deferred tasks ask Azure Resource Graph which jobs have just ended and which items are "
        "new, so that they read those first. Useful with many vaults in one subscription.",
        "false",
        "true",
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


# Options of the API server: what it shows in Airflow's UI, and which hosts it may contact.
OPTIONS: dict[str, dict[str, Any]] = {
    "show_page": _option(
        "Show the Azure Backup page in the Browse menu (Airflow 3.1 and later).", "boolean", "True"
    ),
    "show_tab": _option(
        "Show a tab with the backup job on each task instance (Airflow 3.1 and later).", "boolean", "True"
    ),
    "page_connections": _option(
        "Comma-separated IDs of connections in a secrets backend that the page should show. The page finds "
        "connections in Airflow's database and in the environment of the API server by itself.",
        "string",
        "",
    ),
    "allowed_hosts": _option(
        "Comma-separated hosts that a connection may use as its endpoint, authority or portal when the page "
        "or the Test button uses the connection. The hosts of the known Azure clouds are always allowed. "
        "Nothing is sent to any other host, so a user who edits a connection cannot redirect its secret.",
        "string",
        "",
        "management.cloud.example,login.cloud.example:8443",
    ),
}

# The port is not used but stays visible, because the Test button of Airflow 3.3.2 requires one.
UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema", "host"],
    "relabeling": {"login": "Client ID", "password": "Client secret"},
    "placeholders": {
        "login": "Client ID of the service principal",
        "password": "Client secret, or the password of the certificate",
        "port": "443 (not used, but the Test button of Airflow 3.3.2 requires a port)",
    },
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata in the form Airflow's provider manager validates."""
    return {
        "package-name": "airflow-provider-azbackup",
        "name": "Azure Backup",
        "description": "Gate tasks on Azure Backup: downstream tasks run only after a proven backup.",
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
                "description": "The Azure Backup page in Airflow's UI, and the hosts that it may contact.",
                "options": OPTIONS,
            }
        },
        "extra-links": [
            f"{_PACKAGE}.links.AzureBackupJobLink",
            f"{_PACKAGE}.links.AzureBackupVaultLink",
        ],
    }
