"""Checks of the arguments that a DAG author writes, with errors that name the argument.

Operators and sensors check their arguments with this module when a DAG file is parsed, so importing it is
kept cheap: no dataclasses, and no pattern is compiled before it is used.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal, TypeAlias

from airflow_provider_azbackup.core.model.arm_ids import (
    DATA_PROTECTION,
    INSTANCE_ID,
    ITEM_ID,
    LONGEST_SHOWN,
    RECOVERY_SERVICES,
    VAULT_TYPES,
    decoded,
    is_path_segment,
    match_item,
    match_vault,
    match_vault_above,
    match_vm,
    split_instance_id,
    split_share_id,
    vault_type_of,
)
from airflow_provider_azbackup.core.model.workloads import WORKLOADS
from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupError

# Who started a job: this task, according to Azure's response to its request; someone else, before this
# attempt; or it was found in a list and began after this attempt.
StartedBy: TypeAlias = Literal["this task", "adopted", "found"]
# What a task waits for: the end of the job, or the snapshot with which the backup of a VM begins.
WaitUntil: TypeAlias = Literal["completion", "snapshot"]
# What a trigger does about a late backup: log it, hand it to the worker, or nothing, because it was said.
WhenLate: TypeAlias = Literal["warn", "resume", "warned"]
# Which warnings of a job are accepted: all, none, or those with these error codes, by symbol or by number.
AcceptWarnings: TypeAlias = bool | Collection[str | int]
# What to do about a running job of the item that this task did not start.
IfRunning: TypeAlias = Literal["wait", "adopt", "fail"]
IF_RUNNING = ("wait", "adopt", "fail")
# The outcomes of a backup that is over, the good one first.
END_OUTCOMES = ("succeeded", "warned", "failed", "cancelled")


def did_you_mean(text: str, words: Collection[str]) -> str:
    """Return ``" (did you mean 'word'?)"`` with the most similar known word, or an empty string.

    :param text: the unknown word.
    :param words: the known words.
    """
    from difflib import get_close_matches  # imported here because only errors need it

    by_case = {word.casefold(): word for word in words}
    parts = [word for word in words if text and text.casefold() in word.casefold().split("_")]
    close = parts[:1] or [by_case[word] for word in get_close_matches(text.casefold(), by_case, n=1)]
    return f" (did you mean {close[0]!r}?)" if close else ""


def most_similar_first(text: str, words: Collection[str]) -> list[str]:
    """Return words in their order, but the ones that are most similar to a text first."""
    from difflib import get_close_matches  # as above

    by_case = {word.casefold(): word for word in words}
    close = [by_case[word] for word in get_close_matches(text.casefold(), by_case)]
    return [*dict.fromkeys((*close, *words))]


def check_word(name: str, value: object, words: Collection[str]) -> None:
    """Reject an argument that is not one of the known words.

    :param name: the argument, for the error.
    :raises AzureBackupConfigError: with the argument, its value and the known words.
    """
    if value not in words:
        raise unknown_word_error(name, value, words)


def unknown_word_error(name: str, value: object, words: Collection[str]) -> AzureBackupConfigError:
    """Return the error about an argument that is not one of the known words; see :func:`check_word`."""
    return AzureBackupConfigError(
        f"{name} is {value!r}{did_you_mean(str(value), words)}; expected one of {', '.join(words)}"
        f"{_no_template(value)}"
    )


def _no_template(value: object) -> str:
    """Return the end of an error about a template in an argument that Airflow does not render."""
    return ", not a template" if isinstance(value, str) and is_template(value) else ""


def check_texts(where: str, **arguments: object) -> None:
    """Reject arguments that are not strings: a list or a dict would become a text that names nothing.

    :param where: what the arguments belong to, for the error, such as ``task 'backup'``.
    :param arguments: the arguments by name. None is accepted, and so is what Airflow resolves later: the
        output of another task, an argument of a mapped task group, a function of the context.
    :raises AzureBackupConfigError: with the argument and its value.
    """
    for name, value in arguments.items():
        if value is None or isinstance(value, str) or callable(getattr(value, "resolve", value)):
            continue
        several = where.startswith("task ") and isinstance(value, list | tuple | set | frozenset | dict)
        raise AzureBackupConfigError(
            f"{name} of {where} is {value!r}, of type {type(value).__name__}; expected text"
            f"{f'. For several, map the task: .partial(...).expand({name}=[...])' if several else ''}"
        )


def check_name(name: str, text: str) -> None:
    """Reject a name that cannot be one part of a path.

    :param name: the argument, for the error.
    :raises AzureBackupConfigError: for an empty name, "." and "..", and a slash or a control character in it.
    """
    if not is_path_segment(decoded(text)):
        raise AzureBackupConfigError(
            f"{name} is {text[:LONGEST_SHOWN]!r}; expected a name without slashes, question marks, number "
            f"signs and control characters, which is neither '.' nor '..'"
        )


def shown_host(url: str) -> str:
    """Return the scheme and host of an address, for errors: the rest may contain a secret.

    :param url: any text. If it does not begin with a host, "..." is returned.
    """
    host = r"(?:[a-z0-9-]{1,63}\.)+[a-z][a-z0-9-]{1,30}|localhost|\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:.]+\]"
    found = re.match(
        rf"([a-z]{{1,10}}://)?(?:[^/?#]*@)?((?:{host})(?::\d{{1,5}})?)(?=[/?#]|\Z)", url, re.IGNORECASE
    )
    return f"{found[1] or ''}{found[2]}" if found else "..."


def check_region(name: str, text: str) -> None:
    """Reject a text that is not the name of a region.

    :param name: the argument, for the error.
    :raises AzureBackupConfigError: with what is expected.
    """
    if not re.fullmatch(r"[A-Za-z0-9]{1,60}", text):
        raise AzureBackupConfigError(
            f"{name} is {text[:LONGEST_SHOWN]!r}; expected the name of a region, such as westeurope"
        )


def check_secondary_region(name: str, value: object) -> None:
    """Reject what neither asks for the secondary region nor names it.

    :param name: the argument, for the error.
    :raises AzureBackupConfigError: with what is expected.
    """
    if isinstance(value, str) and value:
        check_region(name, value)
    elif not isinstance(value, bool):
        raise AzureBackupConfigError(
            f"{name} is {value!r}; expected True, False, or the name of a region such as westeurope"
        )


def check_item(text: str) -> None:
    """Reject a text that cannot mean a protected item: an empty one, or the ARM id of something else.

    :raises AzureBackupConfigError: with what is expected.
    """
    is_url = re.match(r"https?://", text, re.IGNORECASE)
    is_clean = not re.search(r"[\x00-\x1f\x7f]", decoded(text))
    if (
        is_clean
        and text.strip()
        and (
            (not text.startswith("/") and not is_url)
            or ((item := match_item(text)) and match_vault(item[1]))
            or match_vm(text)
            or split_share_id(text)
            or split_instance_id(text)
        )
    ):
        return
    raise AzureBackupConfigError(
        f"protected_item is {'a URL, ' if is_url else ''}neither a name nor the ARM id of a protected item, "
        f"a virtual machine or a file share. Given: {text.partition('?')[0][:LONGEST_SHOWN]!r}. "
        f"{'In a URL of the portal, the ARM id begins with /subscriptions/. ' if is_url else ''}"
        f"A protected item's ARM id is {ITEM_ID}, or {INSTANCE_ID} in a Backup vault"
    )


def read_datetime(name: str, value: object, *, zone: tzinfo | None = UTC) -> datetime | None:
    """Return a date and time in UTC; None for None or an empty string.

    :param name: the argument, for the error.
    :param value: a datetime or ISO 8601 text.
    :param zone: the time zone of a value without one; None is that of this computer.
    :raises AzureBackupConfigError: if the value is not a date and time.
    """
    if value is None or value == "":
        return None
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if not isinstance(moment, datetime):
        raise AzureBackupConfigError(
            f"{name} {value!r} is not a date and time; expected a datetime or ISO 8601 text, such as "
            f"2026-01-31T00:00:00Z"
        )
    if moment.tzinfo is None and zone is not None:
        moment = moment.replace(tzinfo=zone)
    return moment.astimezone(UTC)


def check_outcomes(outcomes: object) -> list[str]:
    """Return outcomes of backups in their usual order, each once.

    :raises AzureBackupConfigError: if there is none, or one that no backup comes to.
    """
    given = list(outcomes) if isinstance(outcomes, list | tuple | set | frozenset) else [outcomes]
    if not given or not set(given) <= set(END_OUTCOMES):
        raise AzureBackupConfigError(f"outcomes is {outcomes!r}; expected some of {', '.join(END_OUTCOMES)}")
    return [outcome for outcome in END_OUTCOMES if outcome in given]


def read_warnings(name: str, value: object) -> bool | tuple[str, ...]:
    """Return which warnings are accepted: all, none, or those with these codes, in lower case.

    :param name: the argument, for the error.
    :raises AzureBackupConfigError: for anything but a boolean or a collection of codes.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, set | frozenset | list | tuple):
        codes = [
            "" if isinstance(each, bool) or not isinstance(each, str | int) else str(each) for each in value
        ]
        if all(code.strip() and not is_template(code) for code in codes):
            return tuple(sorted({code.strip().casefold() for code in codes}))
    raise AzureBackupConfigError(
        f"{name} is {value!r}; expected True, False, or a set of Azure's error codes such as "
        f"{{'UserErrorVmNotInDesirableState', 400094}}{_no_template(value)}"
    )


def read_interval(name: str, value: object) -> float:
    """Return a positive, finite number of seconds.

    :param name: the argument, for the error.
    :param value: a number of seconds, or a timedelta.
    :raises AzureBackupConfigError: with the argument and its value.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    # To Python, a bool is a number; to a person, it is a mistake here. NaN fails every comparison.
    if not isinstance(seconds, bool) and isinstance(seconds, int | float) and 0 < seconds < float("inf"):
        return seconds
    raise AzureBackupConfigError(
        f"{name} is {value!r}; expected a positive number of seconds or a timedelta{_no_template(value)}"
    )


def check_backup_type(text: str) -> None:
    """Reject a backup type that no workload has.

    :raises AzureBackupConfigError: with the known types.
    """
    check_word("backup_type", text, sorted(set().union(*(types for _, types in WORKLOADS.values()))))


def check_vault_type(text: str) -> None:
    """Reject a text that is not a type of vault.

    :raises AzureBackupConfigError: with what is expected.
    """
    check_word("vault_type", text, VAULT_TYPES)


def is_template(text: str) -> bool:
    """Whether Airflow has yet to render a text."""
    return "{{" in text or "{%" in text


def reject_template(name: str, value: object, *, owner: str) -> None:
    """Reject a template in an argument that Airflow does not render.

    :param name: the argument, for the error.
    :param owner: what it is an argument of, for the error.
    :raises AzureBackupConfigError: with the argument and its value.
    """
    if isinstance(value, str) and is_template(value):
        raise AzureBackupConfigError(
            f"{name} is {value!r}; expected plain text, because Airflow renders no templates of {owner}"
        )


def check_vault_of(
    name: str,
    text: str,
    *,
    vault_name: object = None,
    resource_group_name: object = None,
    subscription_id: object = None,
    vault_type: object = None,
) -> None:
    """Reject an ARM id whose vault is not the one that the other arguments name.

    Text without a vault, such as a GUID, a friendly name or the ARM id of a VM, is accepted.

    :param name: the argument, for the error.
    :param text: its value.
    :param vault_name: the vault. This and the following arguments are not compared if they are None or
        templates.
    :param resource_group_name: its resource group.
    :param subscription_id: its subscription.
    :param vault_type: its type.
    :raises AzureBackupConfigError: with both vaults.
    """
    found = match_vault_above(text)
    if not found:
        return
    parts = dict(
        zip(
            ("subscription_id", "resource_group_name", "vault_name", "vault_type"),
            (*found.groups(), vault_type_of(text)),
            strict=True,
        )
    )
    given = (vault_name, resource_group_name, subscription_id, vault_type)
    names = ("vault_name", "resource_group_name", "subscription_id", "vault_type")
    wrong = {
        key: value
        for key, value in zip(names, given, strict=True)
        if isinstance(value, str)
        and value
        and not is_template(value)
        and value.casefold() != parts[key].casefold()
    }
    if wrong:
        raise AzureBackupConfigError(
            f"{name} is of another vault than the task names: "
            + " and ".join(f"{key} is {value!r}, not {parts[key]!r}" for key, value in wrong.items())
            + f". Drop {'these arguments' if len(wrong) > 1 else 'this argument'}, because the ARM id names "
            f"its vault by itself, or correct the ARM id: {text!r}"
        )


def cancel_unsupported(what: str) -> AzureBackupConfigError:
    """Return the error to raise if someone asks to cancel a job of a Backup vault.

    :param what: the argument, task or request that asks for it, with which the error begins.
    """
    return AzureBackupConfigError(
        f"{what} cannot work: Azure has no way to cancel a job of a Backup vault (Microsoft.DataProtection)"
    )


def check_vault_options(
    vault_type: str | None, *, cancels: list[str], other_vaults: list[str], rules: list[str]
) -> None:
    """Reject arguments that a type of vault does not support.

    :param vault_type: the vault's type; None if it is not known yet.
    :param cancels: the arguments given that ask for jobs to be cancelled.
    :param other_vaults: the arguments given that only Recovery Services vaults support.
    :param rules: the arguments given that only Backup vaults support.
    :raises AzureBackupConfigError: with these arguments.
    """
    if vault_type == DATA_PROTECTION and cancels:
        raise cancel_unsupported(" and ".join(cancels))
    if wrong := {DATA_PROTECTION: other_vaults, RECOVERY_SERVICES: rules}.get(vault_type or "", []):
        vaults = "Recovery Services vaults" if vault_type == DATA_PROTECTION else "Backup vaults"
        raise AzureBackupConfigError(f"{' and '.join(wrong)}: only {vaults} support that")


def check_version(stored: object, version: int, *, what: str, otherwise: str) -> dict[str, Any]:
    """Return what was stored, if it was written in a version that this release reads.

    :param stored: anything.
    :param version: the version that this release writes.
    :param what: what it is, in the error for a newer version.
    :param otherwise: the error for anything else.
    :raises AzureBackupError: if it was written by a newer release, or is something else.
    """
    found = stored.get("version") if isinstance(stored, dict) else None
    if type(found) is int and found > version:
        raise AzureBackupError(
            f"{what} was written by a newer release of airflow-provider-azbackup (version {found}, this "
            f"release reads {version}): upgrade the worker, then retry the task"
        )
    if not isinstance(stored, dict) or type(found) is not int or found != version:
        raise AzureBackupError(f"{otherwise}: {str(stored)[:200]!r}")
    return stored
