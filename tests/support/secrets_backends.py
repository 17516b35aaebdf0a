"""Secrets backends of Airflow, which keeps them for as long as a process lives."""

from __future__ import annotations

import pytest


def forget_secrets_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Airflow 3.3 read during a test which secrets backend is configured, and forget it afterwards."""
    try:
        from airflow.sdk import configuration
    except ImportError:
        return  # Airflow 2 keeps none
    monkeypatch.setattr(configuration, "_secrets_backend_cache", {}, raising=False)
