"""What happens when a backup fails: the work after it is not done, and somebody is
notified.

`patch` does not run (`upstream_failed`). There are two ways to notify somebody,
and neither needs a notifier of this package:

* `on_failure_callback` takes any notifier of Airflow. Its templates can use
  `exception`: Azure's error, its recommendations, the job, and the activity id
  for a support case. `exception.job` has the same as data. Set
  `AZBACKUP_NOTIFY_BY` to `mail` (provider `smtp`, connection `smtp_default`) or
  `slack` (provider `slack`, connection `slack_default`). Without it, as in the
  demo, the text is written to the task's log.
* `notify` runs because `backup` failed, and reads the XCom `job`, which exists
  whether the backup ended well or not.

In the demo, the VM `vm-fails` is in a state that Azure cannot back up.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseNotifier, task

from airflow_provider_azbackup.operators import AzureBackupOperator

SUBJECT = "No backup of {{ (exception.job or {}).get('item', 'an item') }}"
TEXT = "{{ exception }}"


class LogNotifier(BaseNotifier):
    """Writes to the log of the task."""

    template_fields = ("text",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def notify(self, context: Any) -> None:
        """Write the text."""
        print(self.text)


def notifier() -> Any:
    """Return the chosen notifier. Each is imported only if it is chosen."""
    way = os.environ.get("AZBACKUP_NOTIFY_BY", "log")
    if way == "mail":
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier

        return SmtpNotifier(
            from_email="airflow@example.com",
            to="backups@example.com",
            subject=SUBJECT,
            html_content=f"<pre>{TEXT}</pre>",
        )
    if way == "slack":
        from airflow.providers.slack.notifications.slack import SlackNotifier

        return SlackNotifier(
            slack_conn_id="slack_default",
            channel="backups",
            text=f"{SUBJECT}\n{TEXT}",
        )
    return LogNotifier(f"{SUBJECT}\n{TEXT}")


with DAG(
    dag_id="azbackup_backup_fails",
    schedule=None,
    tags=["azure-backup"],
    doc_md=__doc__,
):
    backup = AzureBackupOperator(
        task_id="backup",
        protected_item="vm-fails",
        deferrable=True,
        on_failure_callback=notifier(),
    )

    @task
    def patch() -> None:
        """Never runs, because there is no backup."""
        raise AssertionError("this must not run after a backup that failed")

    @task(trigger_rule="one_failed")
    def notify(ti: Any = None) -> str:
        """Return Azure's error. A message to a channel could be sent from here."""
        job = ti.xcom_pull(task_ids="backup", key="job")
        error = job["errors"][0]
        message = f"No backup of {job['item']}: {error['title']}: {error['message']}"
        print(message, *error["recommendations"], sep="\n")
        return message

    backup >> [patch(), notify()]
