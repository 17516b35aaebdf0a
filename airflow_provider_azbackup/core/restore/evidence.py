"""The evidence of a restore drill: what was restored, how long it took, what was checked, and the verdict.

A restore is proven only if everything that was to happen has happened. Whatever is not known counts against
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.json_safe import MOST_ENTRIES, clean, cut, iso_time
from airflow_provider_azbackup.core.wire import JsonObject

VERSION = 1
# The XCom of the record, and its key in events of outlets.
RECORD = "restore_record"
# The checks that a record names; the characters of a text in it.
MOST_CHECKS, _LONGEST = 100, 1000
# What the record takes over from the facts of the restore.
_FACTS = (
    *("item", "item_id", "vault_id", "target", "made", "recovery_point_id", "recovery_point_time"),
    *("job_id", "began", "ended", "rpo_seconds", "rto_seconds"),
)


def facts_of_restore(
    job: Job | None,
    *,
    known: Mapping[str, Any],
    target: str,
    made: Sequence[Mapping[str, str]],
    attempt: str,
) -> JsonObject:
    """Return the XCom ``restored``.

    :param job: once it is over, and proves a restore; None before.
    :param known: what is known before that: ``item_id``, ``vault_id``, ``job_id``, ``suffix``, and id and
        time of the recovery point.
    :param target: name of the restore target.
    :param made: what the restore makes.
    :param attempt: what a Clear of the run changes.
    """
    first = made[0] if made else {}
    time = known.get("recovery_point_time")
    taken = datetime.fromisoformat(time).timestamp() if isinstance(time, str) else None
    began, ended = (job.began, job.ended) if job else (0.0, 0.0)
    return {
        "version": VERSION,
        "item": _text(job.item if job else "") or known["item_id"].rpartition("/")[2],
        **{name: known[name] for name in ("item_id", "vault_id", "job_id", "suffix")},
        "target": target,
        "name": first.get("name", ""),
        "arm_id": first.get("arm_id", ""),
        "made": [*map(dict, made)][:MOST_ENTRIES],
        "made_left_out": max(0, len(made) - MOST_ENTRIES),
        "recovery_point_id": known.get("recovery_point_id"),
        "recovery_point_time": time,
        "began": iso_time(began) if began else None,
        "ended": iso_time(ended) if ended else None,
        "rpo_seconds": round(began - taken, 3) if began and taken else None,
        "rto_seconds": round(ended - began, 3) if began and ended else None,
        "attempt": attempt,
    }


def judge(
    restored: object,
    restore_states: Sequence[str],
    checks: Mapping[str, Sequence[str]],
    *,
    now: float,
    attempt: str,
    run: Mapping[str, Any],
) -> JsonObject:
    """Return the XCom ``restore_record``: the evidence of a drill, and whether the restore is proven.

    :param restored: what the restore has pushed, if anything.
    :param restore_states: the states of the restore task; there should be one.
    :param checks: the states of each task in the block, by its id.
    :param now: Unix time.
    :param attempt: what a Clear of the run changes.
    :param run: what identifies the run, for the reader.
    """
    state = restore_states[0] if len(restore_states) == 1 else "unknown"
    facts = restored if isinstance(restored, dict) and restored.get("version") == VERSION else {}
    # What an earlier attempt has left is no evidence of this one.
    if state != "success" and facts.get("attempt") != attempt:
        facts = {}
    results = {name: _result(states) for name, states in checks.items()}
    reasons = [*_flaws_of_restore(state, facts), *_flaws_of_checks(results)]
    return {
        "version": VERSION,
        "proven": not reasons,
        "reasons": [_text(reason) for reason in reasons[:MOST_ENTRIES]],
        "at": iso_time(now),
        **{name: facts.get(name) for name in _FACTS},
        "made": facts.get("made") or [],
        "made_left_out": facts.get("made_left_out") or 0,
        "restore": state,
        "checks": dict([*results.items()][:MOST_CHECKS]),
        "checks_left_out": max(0, len(results) - MOST_CHECKS),
        "run": dict(run),
    }


def _result(states: Sequence[str]) -> str:
    """Return one state for all task instances of a check: the first that is no success."""
    return next((state for state in states if state != "success"), "success" if states else "missing")


def _flaws_of_restore(state: str, facts: Mapping[str, Any]) -> list[str]:
    if state != "success":
        return [f"the restore is {state}"]
    if not facts.get("ended"):
        return ["the restore task counts as successful, but it has left no facts of a restore that is over"]
    return []


def _flaws_of_checks(results: Mapping[str, str]) -> list[str]:
    if not results:
        return ["there is no check in the block"]
    return [f"check {name} is {result}" for name, result in results.items() if result != "success"]


def _text(value: str) -> str:
    return cut(clean(value), _LONGEST)
