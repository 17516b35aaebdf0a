"""The Azure portal's addresses that come from an XCom: which job they are about, and whether to show them."""

from __future__ import annotations

import re
from urllib.parse import unquote

from airflow_provider_azbackup.core.model.resources import JobRef, Vault
from airflow_provider_azbackup.core.settings import JOB_PAGE, portal_link
from airflow_provider_azbackup.exceptions import AzureBackupConfigError
from airflow_provider_azbackup.runtime.hosts import known_portal

_TENANT = re.compile(r"#@([\w.-]+)/resource/")


def job_of(link: object) -> JobRef | None:
    """Return the job that a link to the portal is about, or None when it is about none.

    :param link: an XCom, which any task may have written.
    """
    try:
        return JobRef.parse(_arm_id(link))
    except AzureBackupConfigError:
        return None


def safe_link(link: object) -> str:
    """Return the portal's page of the job or vault that a link is about, built from its ARM id.

    :param link: an XCom, which any task may have written.
    :returns: the address, or an empty string when the link names no job or vault, or leads to a host that is
        neither a known portal nor listed in ``[azure_backup] allowed_hosts``.
    """
    if not isinstance(link, str) or not (portal := known_portal(link)):
        return ""
    try:
        path = job.path if (job := job_of(link)) else Vault.parse(_arm_id(link)).path
    except AzureBackupConfigError:
        return ""
    tenant = _TENANT.search(link)
    return portal_link(portal, tenant[1] if tenant else "", path)


def _arm_id(link: object) -> str:
    # Anything else is no link, and the text of a deeply nested list cannot even be made.
    if not isinstance(link, str):
        return ""
    before, page, quoted = link.partition(JOB_PAGE)
    return unquote(quoted) if page else before.partition("/resource")[2]
