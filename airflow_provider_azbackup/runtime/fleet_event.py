"""What crosses from the triggerer to the worker about an estate: one writer, one reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_provider_azbackup.core.estate.scope import Condition, Scope
from airflow_provider_azbackup.core.estate.verdict import Verdict
from airflow_provider_azbackup.core.model.json_safe import json_safe
from airflow_provider_azbackup.core.model.validation import check_version
from airflow_provider_azbackup.core.wire import JsonObject
from airflow_provider_azbackup.exceptions import AzureBackupError

_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class FleetEvent:
    """How a deferred wait for an estate ended: with a verdict, with an error, or only because it is late.

    The worker compares scope and condition with its own, and decides by the counts.
    """

    scope: Scope
    condition: Condition
    verdict: Verdict | None = None
    error: AzureBackupError | None = None
    # Why the estate counts as late, from `lateness` in core/estate/verdict.py. A task that gets nothing else
    # warns and goes back to waiting.
    late: JsonObject | None = None

    def to_dict(self) -> JsonObject:
        """Return the event as plain JSON that every database takes."""
        event: JsonObject = json_safe(
            {
                "version": _VERSION,
                "scope": self.scope.to_dict(),
                "condition": self.condition.to_dict(),
                "at": self.verdict.at if self.verdict else None,
                "verdict": self.verdict.to_dict() if self.verdict else None,
                "error": self.error.facts() if self.error else None,
                **({"late": self.late} if self.late else {}),
            }
        )
        return event

    @classmethod
    def from_dict(cls, payload: Any) -> FleetEvent:
        """Read an event back.

        :raises AzureBackupError: when it is not one of ours: a gate must not open on what it cannot read.
        """
        payload = check_version(
            payload, _VERSION, what="the trigger's event", otherwise="the trigger's event is not a fleet's"
        )
        scope, condition, error = (payload.get(name) for name in ("scope", "condition", "error"))
        if not isinstance(scope, dict) or not isinstance(condition, dict):
            raise AzureBackupError(f"the trigger's event has no scope or condition: {str(payload)[:200]!r}")
        named, wanted = Scope.from_dict(scope), Condition.from_dict(condition)
        if isinstance(error, dict) and payload.get("verdict") is None:
            return cls(scope=named, condition=wanted, error=AzureBackupError.from_facts(error))
        late = payload.get("late")
        is_late = isinstance(late, dict) and isinstance(late.get("message"), str)
        if is_late and error is None and payload.get("verdict") is None:
            return cls(scope=named, condition=wanted, late=late)
        at = payload.get("at")
        if error is not None or isinstance(at, bool) or not isinstance(at, int | float):
            raise AzureBackupError(f"the trigger's event holds no verdict: {str(payload)[:200]!r}")
        return cls(scope=named, condition=wanted, verdict=Verdict.from_dict(payload.get("verdict"), at=at))
