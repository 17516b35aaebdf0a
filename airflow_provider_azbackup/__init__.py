"""Gate Airflow work on Azure Backup: downstream tasks run only after a proven backup."""

from __future__ import annotations

__version__ = "0.1.0"
