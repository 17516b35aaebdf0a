"""What a person has decided about a restore, from the event that Airflow hands over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from airflow_provider_azbackup.core.model.json_safe import clean, cut
from airflow_provider_azbackup.core.wire import JsonObject

VERSION = 1
# The XCom of the decision.
APPROVAL = "approval"
APPROVE, REJECT = "Approve", "Reject"
# The field of the form in which a person says why.
REASON = "reason"
_LONGEST = 1000


def read_decision(event: object) -> JsonObject:
    """Return what was decided, by whom, why and when: the XCom ``approval``.

    Only the answer of a person who chose to approve counts as an approval. Whatever else the event holds is
    ``rejected``, ``no answer`` or ``unknown``.
    """
    answer = event if isinstance(event, Mapping) else {}
    user = answer.get("responded_by_user")
    person = user if isinstance(user, Mapping) else {}
    given = answer.get("params_input")
    at = answer.get("responded_at")
    return {
        "version": VERSION,
        "decision": _decision(answer, is_person=bool(person.get("id"))),
        "by": _text(person.get("id")),
        "name": _text(person.get("name")),
        "reason": _text(given.get(REASON)) if isinstance(given, Mapping) else "",
        "at": _text(at.isoformat() if isinstance(at, datetime) else at),
    }


def _decision(answer: Mapping[str, Any], *, is_person: bool) -> str:
    if answer.get("error_type") == "timeout" or answer.get("timedout"):
        return "no answer"
    chosen = answer.get("chosen_options")
    if answer.get("error") or not is_person or not isinstance(chosen, list | tuple) or len(chosen) != 1:
        return "unknown"
    return {APPROVE: "approved", REJECT: "rejected"}.get(str(chosen[0]), "unknown")


def digest_of(*asked: object) -> str:
    """Return a few letters that are others for any other restore, so that a decision is about one alone."""
    return sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _text(value: object) -> str:
    return cut(clean(str(value)), _LONGEST) if value else ""
