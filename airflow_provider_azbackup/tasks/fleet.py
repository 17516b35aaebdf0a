"""One look at an estate from a worker, and the arguments that say which items it is about."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow_provider_azbackup.core.model.arm_ids import match_vault, match_vault_above
from airflow_provider_azbackup.core.model.validation import (
    check_item,
    check_name,
    check_word,
    is_template,
)
from airflow_provider_azbackup.core.model.workloads import WORKLOADS
from airflow_provider_azbackup.exceptions import AzureBackupConfigError
from airflow_provider_azbackup.runtime import clock

if TYPE_CHECKING:
    from airflow_provider_azbackup.core.estate.look import Estate
    from airflow_provider_azbackup.core.estate.verdict import Verdict
    from airflow_provider_azbackup.tasks.hook import TaskHook


def vaults_of(items: Collection[str]) -> tuple[str, ...]:
    """Return the ARM ids of the vaults that the ARM ids of all items name; nothing if one names none."""
    found = [match_vault_above(text) for text in items]
    return tuple(
        dict.fromkeys(text[: len(vault[0])] for text, vault in zip(items, found, strict=True) if vault)
    )


def read_texts(where: str, name: str, value: object) -> tuple[str, ...]:
    """Return an argument that takes one text or several.

    :param where: what the argument belongs to, for the error.
    :param name: the argument, for the error.
    :raises AzureBackupConfigError: for anything else, and for an empty text or collection.
    """
    several = isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)
    texts = [value] if isinstance(value, str) else [*value] if several else []  # type: ignore[misc]  # narrowed above
    if value is None:
        return ()
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise AzureBackupConfigError(
            f"{name} of {where} is {value!r:.200}; expected text, or a list of texts that is not empty"
        )
    return tuple(texts)


def read_tags(where: str, value: object) -> tuple[tuple[str, str], ...]:
    """Return tags by name.

    :raises AzureBackupConfigError: for anything but a dict of texts.
    """
    if value is None:
        return ()
    pairs = [*value.items()] if isinstance(value, Mapping) else []
    if not pairs or not all(isinstance(text, str) for text in chain.from_iterable(pairs)):
        raise AzureBackupConfigError(
            f"tags of {where} is {value!r:.200}; expected a dict of texts, such as {{'tier': '1'}}"
        )
    return tuple(pairs)


def check_allow(where: str, value: object) -> None:
    """Refuse what is neither a number of items nor a share of them.

    :raises AzureBackupConfigError: with what is expected.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and value >= 0 and (isinstance(value, int) or value < 1):  # type: ignore[operator]  # as said
        return
    raise AzureBackupConfigError(
        f"allow of {where} is {value!r}; expected a whole number of items, such as 3, or a share of them "
        f"below 1, such as 0.01"
    )


def check_scope(where: str, **arguments: object) -> None:
    """Refuse what cannot be part of a scope, as far as it is known when the DAG is parsed.

    :param where: what the arguments belong to, for the error.
    :param arguments: by name, as :class:`~airflow_provider_azbackup.core.estate.scope.Scope` has them.
    :raises AzureBackupConfigError: with the argument and its value.
    """
    checks: Mapping[str, Any] = {
        "vaults": lambda text: None if match_vault(text) else check_name(f"vaults of {where}", text),
        "subscriptions": lambda text: check_name(f"subscriptions of {where}", text),
        "workload": lambda text: _check_workload(f"workload of {where}", text),
        "protected_items": check_item,
        "exclude": lambda text: None if match_vault(text) else check_item(text),
    }
    for name, value in arguments.items():
        if isinstance(value, str | list | tuple | set | frozenset):
            for text in read_texts(where, name, value):
                if not is_template(text) and name in checks:
                    checks[name](text)


def _check_workload(name: str, text: str) -> None:
    """Refuse a word that no item's name begins with. The types of data sources are Azure's own, and many."""
    if "/" not in text and text.casefold() not in WORKLOADS:
        check_word(name, text, [*WORKLOADS])


def survey(hook: TaskHook, estate: Estate, *, poll_interval: float, allow: float) -> Verdict:
    """Look at an estate once, and return the verdict.

    :param hook: of the task.
    :param estate: what earlier looks have found.
    :param poll_interval: seconds, the age at which a list is too old to open the gate by.
    :param allow: how many items, or which share, may fall short.
    :raises AzureBackupNotFoundError: when the scope selects nothing.
    """
    now = clock.current().now()
    settle(hook, estate, now)
    for vault in estate.vaults:
        if estate.needs_jobs(vault) and estate.may_ask(vault, now):
            hook.converse(estate.read_jobs(vault, now))
    verdict = settle(hook, estate, now)
    oldest = now - poll_interval
    if verdict.opens(allow) and not estate.is_current(oldest):
        estate.expire(oldest)
        verdict = settle(hook, estate, now)
    return verdict


def settle(hook: TaskHook, estate: Estate, now: float) -> Verdict:
    """Read what is due other than lists of jobs, and judge, until nothing more is due."""
    while True:
        verdict = hook.converse(estate.judge(now))
        count = 0
        for flow in estate.due(now):
            hook.converse(flow)
            count += 1
        for job in estate.unconfirmed():
            if estate.may_ask(job.ref.vault, now):
                hook.converse(estate.read_job(job.ref, now))
                count += estate.is_confirmed(job)
        if not count:
            return verdict
