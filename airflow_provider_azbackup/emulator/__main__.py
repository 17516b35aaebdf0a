"""``python -m airflow_provider_azbackup.emulator``: run until SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import threading
from pathlib import Path

from airflow_provider_azbackup.emulator import Emulator
from airflow_provider_azbackup.emulator.tls import write_whole


def main() -> None:
    """Start the emulator, say how to reach it, and stop on a signal."""
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_azbackup.emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=8443, help="on loopback; 0 takes a free one")
    parser.add_argument("--speed", type=float, default=60.0, help="emulated seconds per second")
    parser.add_argument(
        "--directory",
        type=Path,
        help="where ca.pem, connection.json and state.db go; one that was used before is gone on with",
    )
    parser.add_argument("--seed", type=Path, help="a JSON file of changes to the seed")
    parser.add_argument("--vault-read-budget", type=int, help="job reads an emulated hour, 150 at first")
    options = parser.parse_args()
    seed = json.loads(options.seed.read_text()) if options.seed else None
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with Emulator(speed=options.speed, port=options.port, directory=options.directory, seed=seed) as azure:
        if options.vault_read_budget is not None:
            azure.configure(job_read_budget=options.vault_read_budget)
        path = azure.directory / "connection.json"
        write_whole(path, json.dumps(azure.connection()).encode())
        print(f"Azure Backup emulator at {azure.url} (help: {azure.url}/_emulator)")
        print(f"certificate authority: {azure.ca_bundle}")
        # What is printed ends in logs; the secret stays in its file.
        print(f'AIRFLOW_CONN_AZURE_BACKUP_DEFAULT="$(cat {shlex.quote(str(path))})"', flush=True)
        stop.wait()
    print("stopped", flush=True)


if __name__ == "__main__":
    main()
