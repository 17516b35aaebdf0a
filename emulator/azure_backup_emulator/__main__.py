"""Azure Backup's REST API on your own computer. The command runs until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import errno
import json
import shlex
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from azure_backup_emulator import Emulator
from azure_backup_emulator.estate import estate
from azure_backup_emulator.tls import write_whole


def main() -> None:
    """Start the emulator, print how to reach it, and stop on a signal.

    If it cannot start, it prints one line to standard error and exits with status 2.
    """
    parser = argparse.ArgumentParser(prog="azure-backup-emulator", description=__doc__)
    parser.add_argument(
        "--port",
        type=_port,
        default=8443,
        help="port on the loopback interface (default: 8443); 0 takes a free one",
    )
    parser.add_argument(
        "--speed", type=float, default=60.0, help="emulated seconds in one real second (default: 60)"
    )
    parser.add_argument(
        "--directory",
        type=Path,
        help="directory for ca.pem, connection.json and state.db; an emulator that is started again on it "
        "continues where it stopped (default: a temporary one)",
    )
    parser.add_argument(
        "--seed", type=Path, help="JSON file with vaults and items in place of the default ones"
    )
    parser.add_argument(
        "--vaults", type=int, help="replace the default vaults and items by an estate of this many vaults"
    )
    parser.add_argument(
        "--items", type=int, default=1000, help="protected items of the estate (default: 1000)"
    )
    parser.add_argument(
        "--subscriptions", type=int, default=1, help="subscriptions of the estate (default: 1)"
    )
    parser.add_argument(
        "--vault-read-budget", type=int, help="reads of jobs allowed in an emulated hour (default: 150)"
    )
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        _serve(options, stop)
    except (OSError, ValueError) as error:
        parser.exit(2, f"{parser.prog}: error: {_reason(error, options.port)}\n")
    print("stopped", flush=True)


def _serve(options: argparse.Namespace, stop: threading.Event) -> None:
    seed = _seed(options)
    with Emulator(speed=options.speed, port=options.port, directory=options.directory, seed=seed) as azure:
        if options.vault_read_budget is not None:
            azure.configure(job_read_budget=options.vault_read_budget)
        path = azure.directory / "connection.json"
        write_whole(path, json.dumps(azure.connection()).encode())
        print(f"Azure Backup emulator at {azure.url} (help: {azure.url}/_emulator)")
        print(f"certificate authority: {azure.ca_bundle}")
        # The output may end up in a log, so the secret is only in the file.
        print(f'export AIRFLOW_CONN_AZURE_BACKUP_DEFAULT="$(cat {shlex.quote(str(path))})"')
        # The provider's page in Airflow's UI and its connection test need this.
        print(f"export AIRFLOW__AZURE_BACKUP__ALLOWED_HOSTS={urlsplit(azure.url).netloc}", flush=True)
        stop.wait()


def _port(text: str) -> int:
    if not 0 <= (port := int(text)) <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is not a port; expected 0 to 65535")
    return port


def _seed(options: argparse.Namespace) -> Mapping[str, Any] | None:
    if options.vaults is None:
        return _read(options.seed) if options.seed else None
    if options.seed:
        raise ValueError("--seed and --vaults exclude each other; give one of them")
    return estate(vaults=options.vaults, items=options.items, subscriptions=options.subscriptions)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        seed = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"seed {path} is not JSON: {error}") from None
    if not isinstance(seed, dict):
        raise ValueError(f"seed {path} must hold an object with keys such as vaults and items")
    return seed


def _reason(error: Exception, port: int) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"port {port} is in use; choose another with --port, or --port 0 for a free one"
    return str(error)


if __name__ == "__main__":
    main()
