"""The emulator as a process and as a module: what it prints, binds, stops and imports."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import azure_backup_emulator as package
from azure_backup_emulator import Emulator
from azure_backup_emulator import __main__ as command

HERE = Path(package.__file__).parent


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_a_connection_serves_and_stops_on_a_signal(tmp_path: Path, number: int) -> None:
    line = [sys.executable, "-W", "error", "-m", "azure_backup_emulator", "--port", "0"]
    process = subprocess.Popen(
        [*line, "--directory", str(tmp_path), "--vault-read-budget", "9", "--speed", "7"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=HERE.parent,
    )
    assert process.stdout
    try:
        lines = [process.stdout.readline() for _ in range(4)]
        export, assignment = shlex.split(lines[2])
        name, _, value = assignment.partition("=")
        assert export == "export"  # or Airflow, started from this shell, does not see it
        allowed = lines[3].removeprefix("export AIRFLOW__AZURE_BACKUP__ALLOWED_HOSTS=").rstrip()
        assert value == f"$(cat {tmp_path / 'connection.json'})"
        connection = json.loads((tmp_path / "connection.json").read_text())
        assert name == "AIRFLOW_CONN_AZURE_BACKUP_DEFAULT"
        assert connection["extra"]["endpoint"] == f"https://{allowed}"
        assert connection["extra"]["ca_bundle"] == str(tmp_path / "ca.pem")
        assert (tmp_path / "connection.json").stat().st_mode & 0o077 == 0
        trust = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        address = f"{connection['extra']['endpoint']}/_emulator/state"
        with urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
        ).open(address, timeout=120) as reply:
            state = json.load(reply)
        assert (state["job_read_budget"], state["speed"]) == (9, 7)
    finally:
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (0, "stopped\n", "")
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(connection["extra"]["endpoint"].rpartition(":")[2]))) != 0


def test_it_listens_on_loopback_only_and_by_all_its_names(tmp_path: Path) -> None:
    with Emulator(directory=tmp_path) as azure:
        trust = ssl.create_default_context(cafile=azure.ca_bundle)
        trust.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
        for name in ("localhost", "127.0.0.1", *(["::1"] if _has_ipv6() else [])):
            with (
                socket.create_connection((name, azure.port), timeout=5) as plain,
                trust.wrap_socket(plain, server_hostname=name) as secure,
            ):
                assert secure.version() in ("TLSv1.2", "TLSv1.3")
        listening = Path(f"/proc/{os.getpid()}/net/tcp")
        if listening.exists():
            port = f"{azure.port:04X}"
            bound = {
                row.split()[1] for row in listening.read_text().splitlines()[1:] if row.split()[3] == "0A"
            }
            assert {address for address in bound if address.endswith(f":{port}")} == {f"0100007F:{port}"}


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_port_in_use_is_said_at_once() -> None:
    with Emulator() as azure, pytest.raises(OSError, match="in use"), Emulator(port=azure.port):
        pass


@pytest.mark.parametrize(
    ("seed", "reason"),
    [
        (None, "No such file"),
        (b"\xff\xfe", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "must hold an object"),
        (b'{"vault": []}', "seed: unknown key 'vault' (did you mean 'vaults'?)"),
        (b'{"vaults": []}', "vaults must name at least one vault"),
        (b'{"principals": {}, "managed_identity": "x"}', "managed_identity 'x' is not one of"),
    ],
)
def test_a_seed_that_cannot_be_used_is_one_line_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any, seed: bytes | None, reason: str
) -> None:
    path = tmp_path / "seed.json"
    if seed is not None:
        path.write_bytes(seed)
    assert _started(monkeypatch, "--port", "0", "--seed", str(path)) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("azure-backup-emulator: error: ")
    assert reason in err


def test_a_port_in_use_and_other_wrong_options_are_one_line_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    (tmp_path / "file").touch()
    with Emulator() as azure:
        for options, reason in (
            (("--port", str(azure.port)), f"port {azure.port} is in use; choose another with --port"),
            (("--port", "0", "--speed", "0"), "speed must be from"),
            (("--port", "0", "--speed", "nan"), "speed must be from"),
            (("--port", "0", "--vault-read-budget", "-1"), "job_read_budget must be at least 0"),
            (("--port", "0", "--directory", str(tmp_path / "file")), "exists"),
            (("--port", "99999"), "99999 is not a port"),
        ):
            assert _started(monkeypatch, *options) == 2
            assert reason in capsys.readouterr().err.splitlines()[-1]


def _started(monkeypatch: Any, *options: str) -> object:
    """The exit status of the command."""
    monkeypatch.setattr(sys, "argv", ["emulator", *options])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as ended:
            command.main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return ended.value.code


def test_what_is_secret_is_for_the_owner_only(tmp_path: Path) -> None:
    (tmp_path / "state.db").touch(mode=0o644)
    (tmp_path / "reader.token").touch(mode=0o644)
    before = os.umask(0)
    try:
        with Emulator(directory=tmp_path) as azure:
            azure.certificate("reader")
            azure.federated_token_file("reader")
            azure.start_job("vm-good")
            modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        with Emulator() as own:
            assert own.directory.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)
    assert modes.pop("ca.pem") == 0o644
    assert set(modes) >= {"state.db", "state.db-wal", "reader.pem", "reader.token"}
    assert set(modes.values()) == {0o600}


def test_its_own_directory_is_gone_afterwards_and_a_given_one_stays(tmp_path: Path) -> None:
    with Emulator() as azure:
        temporary = azure.directory
        assert temporary.is_dir()
    with Emulator(directory=tmp_path / "new") as azure:
        azure.certificate("reader")
        azure.federated_token_file("reader")
    assert not temporary.exists()
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        "ca.pem",
        "reader.pem",
        "reader.token",
        "state.db",
    }
    for secret in ("reader.pem", "state.db"):
        assert (tmp_path / "new" / secret).stat().st_mode & 0o077 == 0


def test_naming_the_package_loads_neither_aiohttp_nor_cryptography() -> None:
    code = (
        "import sys, azure_backup_emulator\n"
        "print([name for name in ('aiohttp', 'cryptography', 'azure') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=HERE.parent, check=True
    )
    assert done.stdout == "[]\n"
