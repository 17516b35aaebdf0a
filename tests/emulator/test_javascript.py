"""Microsoft's JavaScript client and credential drive the emulator as they would drive Azure."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import azure_backup_emulator
from azure_backup_emulator import Emulator

HERE = Path(__file__).parent / "js"
CLIENT = "azsdk-js-arm-recoveryservicesbackup"
pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js 20 or later on the PATH"),
    pytest.mark.skipif(
        not (HERE / "node_modules").is_dir(), reason=f"needs its npm packages: npm ci --prefix {HERE.name}"
    ),
]


@pytest.fixture(scope="module")
def fast() -> Iterator[Emulator]:
    """An emulator in which the backup of a VM takes a second. Its pages are small, so lists need several."""
    with Emulator(speed=2500) as azure:
        azure.configure(page_size=9)
        yield azure


def node(azure: Emulator, *arguments: str, cwd: Path = HERE) -> str:
    """Run Node.js, trusting the certificate of an emulator, and return what it prints."""
    env = {
        **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        "AIRFLOW_CONN_AZURE_BACKUP_DEFAULT": json.dumps(azure.connection()),
        "NODE_EXTRA_CA_CERTS": azure.ca_bundle,
    }
    done = subprocess.run(
        ["node", *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "statuses", "errors", "points"),
    [
        ("vm-good", ["InProgress", "Completed"], [], [0, 1]),
        ("vm-fails", ["InProgress", "Failed"], ["UserErrorVmNotInDesirableState"], [0, 0]),
    ],
)
def test_it_signs_in_lists_items_starts_a_backup_and_follows_it_to_its_recovery_point(
    fast: Emulator, name: str, statuses: list[str], errors: list[str], points: list[int]
) -> None:
    seen: dict[str, Any] = json.loads(node(fast, "gate.mjs", name))
    assert (seen["accepted"], seen["jobType"]) == (202, "AzureIaaSVMJob")
    here = [item for item in fast.service.world.items if item.vault.name == "demo-vault"]
    assert seen["items"] == len(here)
    # A busy computer can miss the moment in which the job runs.
    assert seen["statuses"][-1:] == statuses[-1:] and set(seen["statuses"]) <= set(statuses)
    assert (seen["errors"], seen["points"]) == (errors, points)
    assert seen["tasks"] == ["Take Snapshot", "Transfer data to vault", "Validate Backup"]
    assert seen["refusal"] == {"status": 404, "code": "ResourceNotFound"}
    pages = [entry for entry in fast.requests if entry["path"].endswith("/backupProtectedItems")]
    assert len(pages) > 1 and all(entry["user_agent"].startswith(CLIENT) for entry in pages)


def test_the_example_of_the_readme_lists_items(fast: Emulator, tmp_path: Path) -> None:
    readme = (Path(azure_backup_emulator.__file__).parents[1] / "README.md").read_text()
    (code,) = re.findall(r"^```javascript\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    (tmp_path / "azure").mkdir()
    (tmp_path / "azure/connection.json").write_text(json.dumps(fast.connection()))
    (tmp_path / "node_modules").symlink_to(HERE / "node_modules")
    printed = node(fast, "--input-type=module", "--eval", code, cwd=tmp_path)
    assert re.search(r"^vm-patched \w+$", printed, re.MULTILINE)
