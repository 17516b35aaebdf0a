"""The plugin that shows the page "Azure Backup" and the tab of a task instance, on Airflow 3.1 and later.

Airflow imports this module in every process, for Dag files too. So it holds nothing but names; the
sub-application is built when somebody first asks for it, in the API server.

It is declared as an entry point ``airflow.plugins``: with ``[core] lazy_discover_providers``, which is on by
default, Airflow does not read plugins from a provider's info.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin, conf

PREFIX = "/azure-backup"
# By the option that turns it off. The addresses are relative to Airflow's, which may be below a path.
_VIEWS = {
    "show_page": {
        "name": "Azure Backup",
        "href": "azure-backup/",
        "destination": "nav",
        "category": "browse",
        "url_route": "azure-backup",
    },
    "show_tab": {
        "name": "Azure Backup",
        "href": "azure-backup/task?dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}",
        "destination": "task_instance",
        "url_route": "azure-backup-job",
    },
}


class _Lazily:
    """The sub-application, built at the first request: no fault of it keeps an API server from starting."""

    _app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            from airflow_provider_azbackup.page.app import make_app

            self._app = make_app()
        await self._app(scope, receive, send)


def views(plugins: type, is_shown: Callable[[str], bool]) -> list[dict[str, str]]:
    """Return the views that an Airflow has a place for: 3.1 and later have, and say so.

    :param plugins: what a plugin is derived from there.
    :param is_shown: whether an option of the section ``azure_backup`` is on.
    """
    if getattr(plugins, "external_views", None) is None:
        return []
    return [dict(view) for option, view in _VIEWS.items() if is_shown(option)]


class AzureBackupPlugin(AirflowPlugin):
    """What Airflow reads."""

    name = "azure_backup"
    external_views: list[Any] = views(
        AirflowPlugin, lambda option: conf.getboolean("azure_backup", option, fallback=True)
    )
    fastapi_apps: list[Any] = (
        [{"app": _Lazily(), "url_prefix": PREFIX, "name": "Azure Backup"}] if external_views else []
    )
