"""Run the conformance suite against the vault that ``LIVE_CONNECTION`` leads to.

Ends with 0 if every assumption held. Writes report.md and recording.json.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dev.live.settings import Settings, SettingsError

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Check the variables, run the suite, say where the results are."""
    try:
        settings = Settings.read()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    # What Airflow or a library warns of says nothing about the vault.
    options = ("-p", "no:cacheprovider", "-W", "default", "--disable-warnings", "-rs")
    line = [sys.executable, "-m", "pytest", *options, "tests/conformance"]
    ended = subprocess.run(line, cwd=ROOT, check=False).returncode
    for name in ("report.md", "recording.json"):
        print(settings.directory / name)
    return ended


if __name__ == "__main__":
    sys.exit(main())
