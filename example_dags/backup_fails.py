"""What happens when the backup fails: the work behind it is not done, and somebody is told why.

`patch` stays shut (`upstream_failed`). Somebody is told in two ways, and neither needs a notifier of its own:

* `on_failure_callback` takes any notifier that Airflow has. Its templates read `exception`: what failed in
  Azure's words, what Azure recommends, the job, and the activity id for a support case. `exception.job` has
  the same as data. Set `AZBACKUP_TELL_BY` to `mail` (provider `smtp`, connection `smtp_default`) or `slack`
  (provider `slack`, connection `slack_default`); without it, as in the demo, the log of the task is told.
* `notify` runs because `backup` failed, and reads the XCom `job`, which is there whether the backup ended
  well or not.

In the demo the machine `vm-fails` is in a state that Azure cannot back up.
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
        """Write it."""
        print(self.text)


def notifier() -> Any:
    """Return the notifier that is asked for; each is imported only then."""
    way = os.environ.get("AZBACKUP_TELL_BY", "log")
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

        return SlackNotifier(slack_conn_id="slack_default", channel="backups", text=f"{SUBJECT}\n{TEXT}")
    return LogNotifier(f"{SUBJECT}\n{TEXT}")


with DAG(dag_id="azbackup_backup_fails", schedule=None, tags=["azure-backup"], doc_md=__doc__):
    backup = AzureBackupOperator(
        task_id="backup", protected_item="vm-fails", deferrable=True, on_failure_callback=notifier()
    )

    @task
    def patch() -> None:
        """Never reached: there is no backup to go back to."""
        raise AssertionError("this must not run behind a backup that failed")

    @task(trigger_rule="one_failed")
    def notify(ti: Any = None) -> str:
        """Say what failed, in Azure's own words; a message to a channel would be sent from here."""
        job = ti.xcom_pull(task_ids="backup", key="job")
        error = job["errors"][0]
        message = f"No backup of {job['item']}: {job['status']}, {error['title']}: {error['message']}"
        print(message, *error["recommendations"], sep="\n")
        return message

    backup >> [patch(), notify()]
