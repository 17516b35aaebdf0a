"""Checks of the arguments that a DAG author writes, with errors that name the argument.

Operators and sensors check their arguments with this module when a DAG file is parsed, so importing it is
kept cheap: no dataclasses, and no pattern is compiled before it is used.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal, TypeAlias

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
from airflow_provider_azbackup.exceptions import AzureBackupConfigError

# Who started a job: this task, as Azure's answer to its request says; somebody else, before this attempt; or
# it was found in a list, and began after this attempt did.
StartedBy: TypeAlias = Literal["this task", "adopted", "found"]
# What a wait is for: the end of the job, or the snapshot a machine's backup begins with.
WaitUntil: TypeAlias = Literal["completion", "snapshot"]
# Which warnings of a job are accepted: all, none, or those of Azure's error codes, by symbol or by number.
AcceptWarnings: TypeAlias = bool | Collection[str | int]
# What to do about a running job of the item that this task did not start.
IfRunning: TypeAlias = Literal["wait", "adopt", "fail"]
IF_RUNNING = ("wait", "adopt", "fail")
# The outcomes of a backup that is over, the good one first.
END_OUTCOMES = ("succeeded", "warned", "failed", "cancelled")


def did_you_mean(text: str, words: Collection[str]) -> str:
    """Return ``" (did you mean 'word'?)"`` for the known word that is most like a text, or nothing.

    :param words: those that are known.
    """
    from difflib import get_close_matches  # here, because it is needed for errors only

    by_case = {word.casefold(): word for word in words}
    parts = [word for word in words if text and text.casefold() in word.casefold().split("_")]
    close = parts[:1] or [by_case[word] for word in get_close_matches(text.casefold(), by_case, n=1)]
    return f" (did you mean {close[0]!r}?)" if close else ""


def most_similar_first(text: str, words: Collection[str]) -> list[str]:
    """Return words in their order, but those that are most like a text before the others."""
    from difflib import get_close_matches  # as above

    by_case = {word.casefold(): word for word in words}
    close = [by_case[word] for word in get_close_matches(text.casefold(), by_case)]
    return [*dict.fromkeys((*close, *words))]


def check_word(name: str, value: object, words: Collection[str]) -> None:
    """Refuse what is none of the words that an argument may be.

    :param name: the argument, for the error.
    :raises AzureBackupConfigError: naming the argument, what it is, and the words.
    """
    if value not in words:
        raise unknown_word_error(name, value, words)


def unknown_word_error(name: str, value: object, words: Collection[str]) -> AzureBackupConfigError:
    """Return the error about an argument that is none of the words it may be; see :func:`check_word`."""
    return AzureBackupConfigError(
        f"{name} is {value!r}{did_you_mean(str(value), words)}; expected one of {', '.join(words)}"
        f"{_no_template(value)}"
    )


def _no_template(value: object) -> str:
    """Return what an error adds where an argument that Airflow does not render is a template."""
    return ", not a template" if isinstance(value, str) and is_template(value) else ""


def check_texts(where: str, **arguments: object) -> None:
    """Refuse what is no text: a list or a dict would be turned into text that names nothing.

    :param where: what the arguments belong to, for the error, such as ``task 'backup'``.
    :param arguments: by name; None passes, and so does what Airflow has yet to resolve: the output of another
        task, an argument of a mapped task group, a function of the context.
    :raises AzureBackupConfigError: naming the argument and what it is.
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
    """Refuse what cannot be one part of a path.

    :param name: the argument, for the error.
    :raises AzureBackupConfigError: for an empty name, "." and "..", and a slash or a control character in it.
    """
    if not is_path_segment(decoded(text)):
        raise AzureBackupConfigError(
            f"{name} is {text[:LONGEST_SHOWN]!r}; expected a name without slashes, question marks, number "
            f"signs and control characters, which is neither '.' nor '..'"
        )


def shown_host(url: str) -> str:
    """Return the scheme and host of an address, for errors: the rest may hold a secret.

    :param url: any text. If it does not begin with a host, "..." is returned.
    """
    host = r"(?:[a-z0-9-]{1,63}\.)+[a-z][a-z0-9-]{1,30}|localhost|\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:.]+\]"
    found = re.match(
        rf"([a-z]{{1,10}}://)?(?:[^/?#]*@)?((?:{host})(?::\d{{1,5}})?)(?=[/?#]|\Z)", url, re.IGNORECASE
    )
    return f"{found[1] or ''}{found[2]}" if found else "..."


def check_region(name: str, text: str) -> None:
    """Refuse what is not the name of a region.

    :param name: the argument, for the error.
    :raises AzureBackupConfigError: saying what is expected.
    """
    if not re.fullmatch(r"[A-Za-z0-9]{1,60}", text):
        raise AzureBackupConfigError(
            f"{name} is {text[:LONGEST_SHOWN]!r}; expected the name of a region, such as westeurope"
        )


def check_item(text: str) -> None:
    """Refuse what can be no protected item: nothing at all, or the ARM id of something else.

    :raises AzureBackupConfigError: saying what is expected.
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
    """Read a moment, as UTC; None for nothing.

    :param name: the argument, for the error.
    :param value: a datetime or ISO 8601 text.
    :param zone: the time zone of a value that names none; None takes that of this computer.
    :raises AzureBackupConfigError: when it is no moment.
    """
    if value is None or value == "":
        return None
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if not isinstance(moment, datetime):
        raise AzureBackupConfigError(
            f"{name} {value!r} is not a moment; expected a datetime or ISO 8601, such as 2026-01-31T00:00:00Z"
        )
    if moment.tzinfo is None and zone is not None:
        moment = moment.replace(tzinfo=zone)
    return moment.astimezone(UTC)


def check_outcomes(outcomes: object) -> list[str]:
    """Return outcomes of backups in their usual order, each once.

    :raises AzureBackupConfigError: when there is none, or one that no backup comes to.
    """
    given = list(outcomes) if isinstance(outcomes, list | tuple | set | frozenset) else [outcomes]
    if not given or not set(given) <= set(END_OUTCOMES):
        raise AzureBackupConfigError(f"outcomes is {outcomes!r}; expected some of {', '.join(END_OUTCOMES)}")
    return [outcome for outcome in END_OUTCOMES if outcome in given]


def read_warnings(name: str, value: object) -> bool | tuple[str, ...]:
    """Read which warnings are accepted: all, none, or those of these codes, in lower case.

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
    :raises AzureBackupConfigError: naming the argument and what it is.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    # bool is a number to Python and a mistake to a person; NaN compares with nothing.
    if not isinstance(seconds, bool) and isinstance(seconds, int | float) and 0 < seconds < float("inf"):
        return seconds
    raise AzureBackupConfigError(
        f"{name} is {value!r}; expected a positive number of seconds or a timedelta{_no_template(value)}"
    )


def check_backup_type(text: str) -> None:
    """Refuse a backup type that no workload knows.

    :raises AzureBackupConfigError: listing those that are known.
    """
    check_word("backup_type", text, sorted(set().union(*(types for _, types in WORKLOADS.values()))))


def check_vault_type(text: str) -> None:
    """Refuse what is no type of vault.

    :raises AzureBackupConfigError: saying what is expected.
    """
    check_word("vault_type", text, VAULT_TYPES)


def is_template(text: str) -> bool:
    """Whether Airflow has yet to render a text."""
    return "{{" in text or "{%" in text


def reject_template(name: str, value: object, *, owner: str) -> None:
    """Refuse a template where Airflow renders none.

    :param name: the argument, for the error.
    :param owner: what it is an argument of, for the error.
    :raises AzureBackupConfigError: naming the argument and what it is.
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
    """Refuse an ARM id of another vault than the one that the other arguments name.

    Text without a vault, such as a GUID, a friendly name or the ARM id of a VM, passes.

    :param name: the argument, for the error.
    :param text: its value.
    :param vault_name: the vault, or a part of its name; None and templates are not compared.
    :param resource_group_name: likewise.
    :param subscription_id: likewise.
    :param vault_type: likewise.
    :raises AzureBackupConfigError: showing both.
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
    """Return the error to raise where a job of a Backup vault is to be cancelled.

    :param what: what was asked for, and of what.
    """
    return AzureBackupConfigError(
        f"{what} cannot work: Azure has no way to cancel a job of a Backup vault (Microsoft.DataProtection)"
    )


def check_vault_options(
    kind: str | None, *, cancels: list[str], other_vaults: list[str], rules: list[str]
) -> None:
    """Refuse arguments that the kind of vault does not know.

    :param kind: the vault's type; None when it is not known yet.
    :param cancels: those given that ask for jobs to be cancelled.
    :param other_vaults: those given that only Recovery Services vaults know.
    :param rules: those given that only Backup vaults know.
    :raises AzureBackupConfigError: naming them.
    """
    if kind == DATA_PROTECTION and cancels:
        raise cancel_unsupported(" and ".join(cancels))
    if wrong := {DATA_PROTECTION: other_vaults, RECOVERY_SERVICES: rules}.get(kind or "", []):
        vaults = "Recovery Services vaults" if kind == DATA_PROTECTION else "Backup vaults"
        raise AzureBackupConfigError(f"{' and '.join(wrong)}: only {vaults} know that")
