"""Checks of the arguments of operators and sensors, as far as they are known when a DAG file is parsed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, get_args

from airflow_provider_azbackup.core.model.validation import (
    WaitUntil,
    check_word,
    is_template,
    read_datetime,
    read_interval,
)
from airflow_provider_azbackup.core.model.workloads import CONSISTENCIES, TIERS
from airflow_provider_azbackup.exceptions import AzureBackupConfigError
from airflow_provider_azbackup.runtime.compat import default_zone, run_moment

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def read_seconds(task_id: str, **arguments: float | timedelta) -> list[float]:
    """Return intervals and timeouts in seconds, in the order in which they are given.

    :raises AzureBackupConfigError: naming an argument that is not positive and finite, and what it is.
    """
    return [read_interval(f"{name} of task {task_id!r}", value) for name, value in arguments.items()]


def check_booleans(task_id: str, **arguments: object) -> None:
    """Refuse what is not a boolean: text such as ``"False"`` is true to Python.

    No boolean of this provider is a template field, so a template would never be rendered.

    :raises AzureBackupConfigError: naming the argument and what it is.
    """
    for name, value in arguments.items():
        if not isinstance(value, bool):
            raise AzureBackupConfigError(
                f"{name} of task {task_id!r} is {value!r}; expected True or False, not text or a template"
            )


def check_gate(
    task_id: str,
    *,
    wait_until: str,
    require_recovery_point: bool,
    min_consistency: str | None,
    min_tier: str | None,
    require_all_disks: bool = False,
) -> None:
    """Refuse what no backup can ever be.

    :raises AzureBackupConfigError: naming the argument, what it is, and what is expected.
    """
    for name, word, words in (
        ("wait_until", wait_until, get_args(WaitUntil)),
        ("min_consistency", min_consistency, CONSISTENCIES),
        ("min_tier", min_tier, TIERS),
    ):
        if word is not None:
            check_word(f"{name} of task {task_id!r}", word, words)
    if (min_consistency or min_tier or require_all_disks) and not require_recovery_point:
        raise AzureBackupConfigError(
            f"task {task_id!r}: min_consistency, min_tier and require_all_disks need the recovery point; "
            f"set require_recovery_point=True as well"
        )
    if wait_until == "snapshot" and min_tier == "HardenedRP":
        raise AzureBackupConfigError(
            f"task {task_id!r}: right after the snapshot no recovery point is in the vault yet, so "
            f"min_tier='HardenedRP' would never pass; wait for 'completion', or ask for 'InstantRP'"
        )


def check_unless_templated(value: object, check: Callable[[str], object]) -> None:
    """Run ``check`` on an argument that is known now: text that is no template."""
    if isinstance(value, str) and not is_template(value):
        check(value)


def check_moment(task_id: str, name: str, value: object) -> None:
    """Refuse a moment that is none, as far as it is known when the DAG is parsed.

    :raises AzureBackupConfigError: naming the argument and what it is.
    """
    check_unless_templated(value, lambda text: read_datetime(name, text))
    if isinstance(value, timedelta) and value < timedelta(0):
        raise AzureBackupConfigError(
            f"{name} of task {task_id!r} is {value!r}; expected a timedelta that is not negative"
        )


def read_moment(
    context: Context,
    task_id: str,
    name: str,
    value: datetime | timedelta | str | None,
    *,
    side: Literal["before", "after"],
) -> datetime:
    """Return the moment that an argument names in this run, once it is rendered.

    :param side: on which side of the moment of the run a timedelta lies.
    :raises AzureBackupConfigError: when it names none.
    """
    moment: datetime | None
    if isinstance(value, timedelta):
        now = run_moment(context)
        moment = now and (now - value if side == "before" else now + value)
    else:
        # A template of something that is not there may come to "None".
        moment = read_datetime(name, None if value == "None" else value, zone=default_zone())
    if moment is None:
        raise AzureBackupConfigError(
            f"{name} of task {task_id!r} came to nothing in this run ({value!r}); "
            f"expected a datetime, ISO 8601 text, or a timedelta {side} the run; or leave it out"
        )
    return moment.astimezone(UTC)
