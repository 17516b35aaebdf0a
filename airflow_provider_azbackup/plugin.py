"""The plugin that adds the Azure Backup page and the tab of a task instance to Airflow 3.1 and later.

Airflow imports this module in every process, also when it parses Dag files, so the module must be cheap to
import. The API server builds the sub-application when it receives the first request for it.

The plugin is an entry point ``airflow.plugins``, because Airflow does not read plugins from the provider info
with ``[core] lazy_discover_providers``, which is on by default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin, conf

PREFIX = "/azure-backup"
_ICONS = {"icon": "azure-backup/assets/icon.svg", "icon_dark_mode": "azure-backup/assets/icon-dark.svg"}
# Each view by the option that turns it off. The URLs are relative, as Airflow may be served below a path.
_VIEWS = {
    "show_page": {
        "name": "Azure Backup",
        "href": "azure-backup/",
        "destination": "nav",
        "category": "browse",
        "url_route": "azure-backup",
        **_ICONS,
    },
    "show_tab": {
        "name": "Azure Backup",
        "href": "azure-backup/task?dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}",
        "destination": "task_instance",
        "url_route": "azure-backup-job",
        **_ICONS,
    },
}


class _LazyApp:
    """Builds the sub-application at the first request, so that its errors cannot stop the API server."""

    _app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            from airflow_provider_azbackup.page.app import make_app

            self._app = make_app()
        await self._app(scope, receive, send)


def views(plugins: type, is_shown: Callable[[str], bool]) -> list[dict[str, str]]:
    """Return the views to show. Airflow below 3.1 supports none.

    :param plugins: Airflow's base class of plugins, which has ``external_views`` if views are supported.
    :param is_shown: returns whether an option of the section ``azure_backup`` is on.
    """
    if getattr(plugins, "external_views", None) is None:
        return []
    return [dict(view) for option, view in _VIEWS.items() if is_shown(option)]


class AzureBackupPlugin(AirflowPlugin):
    """The plugin, as Airflow reads it."""

    name = "azure_backup"
    external_views: list[Any] = views(
        AirflowPlugin, lambda option: conf.getboolean("azure_backup", option, fallback=True)
    )
    fastapi_apps: list[Any] = (
        [{"app": _LazyApp(), "url_prefix": PREFIX, "name": "Azure Backup"}] if external_views else []
    )
