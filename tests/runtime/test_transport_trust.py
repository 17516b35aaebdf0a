"""Who a request says it is from, where its token goes, and what of it is ever shown."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psutil
import pytest

from airflow_provider_azbackup import __version__
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupRefusedError,
    AzureBackupTransientError,
)
from airflow_provider_azbackup.hooks import AzureBackupAsyncHook, AzureBackupHook
from azure_backup_emulator import Emulator

Call = Callable[..., Any]
# Named in full, so that no request is needed to find it.
MACHINE = (
    "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-rg"
    "/providers/Microsoft.RecoveryServices/vaults/demo-vault/backupFabrics/Azure/protectionContainers"
    "/IaasVMContainer;iaasvmcontainerv2;demo-vms;vm-good/protectedItems/VM;iaasvmcontainerv2;demo-vms;vm-good"
)
JOB = "6a7b0b7e-1c3d-4e5f-8a9b-0c1d2e3f4a5b"


def starts(azure: Emulator) -> int:
    return azure.count("POST", "/protectedItems/")


def looks(azure: Emulator) -> int:
    return azure.count("GET", "/backupJobs/")


def sign_ins(azure: Emulator) -> int:
    return azure.count("POST", "/oauth2/v2.0/token")


@dataclass
class Elsewhere:
    """A plain server that is not Azure: what it was asked, word for word, and what it answers."""

    url: str
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], Any]] = field(default_factory=list)

    def answer(self, body: Any, status: int = 200, **headers: str) -> None:
        """Answer the next request so; the last answer serves all requests that follow."""
        self.answers.append((status, headers, body))


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found.asked.append((self.command, self.path, dict(self.headers)))
            answers = found.answers or [(404, {}, None)]
            status, headers, body = answers.pop(0) if len(answers) > 1 else answers[0]
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_CONNECT = do_GET  # noqa: N815  # as http.server calls them

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Elsewhere(url=f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_request_names_the_package_and_has_an_id_of_its_own(azure: Emulator, call: Call) -> None:
    job_id = azure.start_job("vm-good")
    azure.fault(method="GET", status=503, retry_after=1, times=1)
    call("get_job", job_id)
    first, second = azure.requests[-2:]
    for request in (first, second):
        assert request["user_agent"].startswith(f"airflow-provider-azbackup/{__version__}")
        assert re.fullmatch(r"[0-9a-f-]{36}", request["client_request_id"])
    assert first["client_request_id"] == second["client_request_id"], "two tries of one call"
    call("get_job", job_id)
    assert azure.requests[-1]["client_request_id"] != first["client_request_id"]


def test_a_claims_challenge_is_answered_with_a_new_token_within_the_call(azure: Emulator, call: Call) -> None:
    job_id = azure.start_job("vm-good")
    azure.fault(claims=True, times=None)
    assert call("get_job", job_id).status == "InProgress"
    assert (sign_ins(azure), looks(azure)) == (2, 2)


def test_a_claims_challenge_to_a_start_is_answered_and_one_backup_starts(azure: Emulator, call: Call) -> None:
    azure.fault(method="POST", claims=True, times=None)
    call("trigger_backup", MACHINE)
    assert starts(azure) == 2
    assert azure.count("POST", "/protectedItems/", 202) == len(azure.service.world.jobs) == 1


def test_a_token_is_asked_for_once_and_used_until_it_is_about_to_expire(azure: Emulator) -> None:
    job_id = azure.start_job("vm-good")
    with AzureBackupHook() as hook:
        for _ in range(5):
            hook.get_job(job_id)
    assert sign_ins(azure) == 1


def test_a_token_is_renewed_ahead_of_its_end(azure: Emulator) -> None:
    """azure-core asks for another one in its last five minutes, so no request leaves with a stale one."""
    job_id = azure.start_job("vm-good")
    azure.configure(token_lifetime=2)
    with AzureBackupHook() as hook:
        hook.get_job(job_id)
        hook.get_job(job_id)
    assert sign_ins(azure) == 2
    assert azure.count(status=401) == 0


def test_a_token_that_azure_refuses_ends_one_call_and_is_renewed_for_the_next(azure: Emulator) -> None:
    job_id = azure.start_job("vm-good")
    with AzureBackupHook() as hook:
        hook.get_job(job_id)
        azure.fault(expire_token=True)
        with pytest.raises(AzureBackupAuthError, match="ExpiredAuthenticationToken"):
            hook.get_job(job_id)
        assert hook.get_job(job_id).status == "InProgress"
    assert sign_ins(azure) == 2


def test_a_refused_token_does_not_end_a_wait(azure: Emulator, call: Call) -> None:
    job_id = azure.start_job("vm-good", seconds=600)
    azure.fault(expire_token=True, after=1)
    assert call("wait_for_job", job_id, timeout=3600).status == "Completed"
    assert sign_ins(azure) == 2


# Where a token goes


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_redirect_is_not_followed_and_its_target_sees_no_token(
    azure: Emulator, call: Call, elsewhere: Elsewhere, method: str
) -> None:
    azure.fault(redirect=elsewhere.url, times=None)
    with pytest.raises(AzureBackupRefusedError, match="answered 307"):
        call("get_job", JOB) if method == "GET" else call("trigger_backup", MACHINE)
    assert elsewhere.asked == []
    assert azure.count(method, "/subscriptions/") == 1


def test_a_next_page_on_another_host_is_not_fetched_and_that_host_sees_no_token(
    azure: Emulator, call: Call, elsewhere: Elsewhere
) -> None:
    azure.fault(path="/backupJobs", next_link=elsewhere.url, times=None)
    with pytest.raises(AzureBackupTransientError, match="the token of this connection is for localhost"):
        call("list_jobs")
    assert elsewhere.asked == []


def test_a_plain_http_endpoint_serves_on_loopback(
    azure: Emulator, call: Call, connect: Any, elsewhere: Elsewhere
) -> None:
    connect(azure.connection(endpoint=elsewhere.url))
    elsewhere.answer({"name": JOB, "properties": {"status": "Completed"}})
    assert call("get_job", JOB).status == "Completed"
    ((_, _, headers),) = elsewhere.asked
    assert headers["Authorization"].startswith("Bearer ")


def test_a_plain_http_endpoint_anywhere_else_is_refused_before_any_request(
    azure: Emulator, call: Call, connect: Any
) -> None:
    connect(azure.connection(endpoint="http://management.azure.com"))
    with pytest.raises(AzureBackupConfigError, match="would show the token"):
        call("get_job", JOB)
    assert azure.requests == []


# What is sent, word for word


def test_the_token_of_a_next_page_arrives_as_azure_wrote_it(
    azure: Emulator, call: Call, connect: Any, elsewhere: Elsewhere
) -> None:
    connect(azure.connection(endpoint=elsewhere.url))
    token = "%24skipToken=a%2Bb%26c%23d%3D%3D"
    elsewhere.answer({"value": [], "nextLink": f"{elsewhere.url}/subscriptions/s/more?{token}"})
    elsewhere.answer({"value": []})
    call("list_jobs", status="Failed")
    (_, first, _), (_, second, _) = elsewhere.asked
    assert unquote(first.partition("$filter=")[2]) == "status eq 'Failed'"
    assert second.endswith("skipToken=a%2Bb%26c%23d%3D%3D")


@pytest.mark.parametrize("stated", ["soon", "Mon, 01 Jan 99999 00:00:00 GMT", "-5", ""])
def test_a_retry_after_that_cannot_be_read_is_none_at_all(
    azure: Emulator, call: Call, connect: Any, elsewhere: Elsewhere, stated: str
) -> None:
    connect(azure.connection(endpoint=elsewhere.url))
    elsewhere.answer({}, status=503, Retry_After=stated)
    elsewhere.answer({"name": JOB, "properties": {"status": "Completed"}})
    assert call("get_job", JOB).status == "Completed"


# What is shown


@pytest.mark.parametrize("fault", [None, {"status": 500}, {"expire_token": True}, {"claims": True}], ids=str)
def test_the_most_talkative_log_holds_no_token_no_secret_and_no_signature(
    azure: Emulator, call: Call, caplog: pytest.LogCaptureFixture, fault: dict[str, Any] | None
) -> None:
    caplog.set_level(logging.DEBUG)
    if fault:
        azure.fault(method="GET", **fault)
    operation = call("trigger_backup", MACHINE)
    call("wait_for_operation", operation)
    logged = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert "backupOperations" in logged, "nothing was logged, so nothing is shown by this test"
    assert azure.connection()["password"] not in logged
    assert re.findall(r"eyJ[\w-]+\.eyJ[\w-]+", logged) == []
    assert re.findall(r"[?&][csh]=[\w-]{20,}", logged) == []


# Proxies and certificates


def test_a_proxy_of_the_environment_is_used(
    azure: Emulator, call: Call, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HTTPS_PROXY", elsewhere.url)
    with pytest.raises(AzureBackupError):
        call("get_job", JOB)
    assert {(method, path) for method, path, _ in elsewhere.asked} == {("CONNECT", f"localhost:{azure.port}")}
    assert azure.requests == []


def test_a_proxy_for_all_is_used_in_worker_and_triggerer_alike(
    azure: Emulator, call: Call, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("ALL_PROXY", elsewhere.url)
    with pytest.raises(AzureBackupError):
        call("get_job", JOB)
    assert {method for method, _, _ in elsewhere.asked} == {"CONNECT"}


def test_a_host_that_no_proxy_names_is_reached_without_it(
    azure: Emulator, call: Call, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = azure.start_job("vm-good")
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("NO_PROXY", "localhost")
    monkeypatch.setenv("HTTPS_PROXY", elsewhere.url)
    monkeypatch.setenv("HTTP_PROXY", elsewhere.url)
    assert call("get_job", job_id).status == "InProgress"
    assert elsewhere.asked == []


def test_netrc_never_replaces_the_token(
    azure: Emulator, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("default login somebody password else\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    job_id = azure.start_job("vm-good")
    assert call("get_job", job_id).status == "InProgress"
    assert azure.count(status=401) == 0


@pytest.mark.parametrize(
    "proxy",
    [
        "http://clerk:pass-word@127.0.0.1:{port}",
        "http://clerk:pass-word@127.0.0.1:1",
        "http://clerk:pass-word@[nowhere",
        "http://clerk:pass-word@127.0.0.1:none",
        "http://clerk:pass-word@",
        "http://clerk:pass-word//@127.0.0.1:1",
        "http://clerk:pass-word?x@127.0.0.1:1",
        "socks9://clerk:pass-word@127.0.0.1:1",
        "clerk:pass-word@127.0.0.1:{port}",
    ],
)
@pytest.mark.parametrize("signed_in", [False, True], ids=["at sign-in", "signed in"])
def test_the_password_of_a_proxy_is_never_shown(
    azure: Emulator,
    call: Call,
    elsewhere: Elsewhere,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    proxy: str,
    signed_in: bool,
) -> None:
    caplog.set_level(logging.DEBUG)
    elsewhere.answer({}, status=407)
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("NO_PROXY", "localhost" if signed_in else "")
    monkeypatch.setenv("HTTPS_PROXY", proxy.format(port=elsewhere.url.rpartition(":")[2]))
    if signed_in:
        connect_elsewhere(azure, monkeypatch)
    with pytest.raises(AzureBackupError) as error:
        call("get_job", JOB)
    shown = f"{error.value!r} {error.value.__cause__!r} {error.value.__context__!r} {caplog.text}"
    assert "pass-word" not in shown


def connect_elsewhere(azure: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sign in at the emulator, and ask an endpoint that is not excepted from the proxy."""
    connection = azure.connection(endpoint="https://management.example.test")
    monkeypatch.setenv("AIRFLOW_CONN_AZURE_BACKUP_DEFAULT", json.dumps(connection))


def test_a_server_of_an_unknown_authority_is_not_trusted(azure: Emulator, call: Call, connect: Any) -> None:
    connect(azure.connection(ca_bundle=""))
    with pytest.raises(AzureBackupError, match="CERTIFICATE_VERIFY_FAILED"):
        call("get_job", JOB)
    assert azure.requests == []


def test_an_endpoint_of_an_unknown_authority_gets_no_token(
    azure: Emulator, call: Call, connect: Any, tmp_path: Path
) -> None:
    """The tenant is trusted here, the endpoint is not: another emulator, with a certificate of its own."""
    with Emulator(directory=tmp_path) as other:
        connect(azure.connection(endpoint=other.url))
        with pytest.raises(AzureBackupTransientError, match="CERTIFICATE_VERIFY_FAILED"):
            call("get_job", JOB)
        assert other.requests == []
    assert sign_ins(azure) == 1


def test_a_ca_bundle_that_is_not_there_is_told_before_any_request(
    azure: Emulator, call: Call, connect: Any
) -> None:
    connect(azure.connection(ca_bundle="/nowhere/ca.pem"))
    with pytest.raises(
        AzureBackupConfigError, match=r"ca_bundle '/nowhere/ca\.pem' in the extra .* cannot be read"
    ):
        call("get_job", JOB)
    assert azure.requests == []


def test_a_ca_bundle_that_holds_no_certificate_is_told_before_any_request(
    azure: Emulator, call: Call, connect: Any, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    connect(azure.connection(ca_bundle=str(tmp_path / "ca.pem")))
    with pytest.raises(AzureBackupConfigError, match="cannot be read on this computer"):
        call("get_job", JOB)
    assert azure.requests == []


# What stays open


def connections_to(azure: Emulator) -> int:
    gc.collect()  # msal keeps a refused answer, and with it its connection, in a circle of references
    return sum(
        bool(each.raddr) and each.raddr.port == azure.port and each.status == psutil.CONN_ESTABLISHED
        for each in psutil.Process(os.getpid()).net_connections("tcp")
    )


def test_a_hook_keeps_few_connections_and_none_when_it_is_closed(azure: Emulator) -> None:
    job_id = azure.start_job("vm-good")
    with AzureBackupHook() as hook:
        for _ in range(10):
            hook.get_job(job_id)
        assert 1 <= connections_to(azure) <= 2
    assert connections_to(azure) == 0
    hook.close()


async def test_an_async_hook_keeps_few_connections_and_none_when_it_is_closed(azure: Emulator) -> None:
    """azure-core would open one for each request, were it handed the CA's path."""
    job_id = azure.start_job("vm-good")
    async with AzureBackupAsyncHook() as hook:
        for _ in range(10):
            await hook.get_job(job_id)
        assert 1 <= connections_to(azure) <= 2
    await asyncio.sleep(0)
    assert connections_to(azure) == 0


async def test_an_async_hook_is_closed_when_its_block_is_left_by_an_error(azure: Emulator) -> None:
    with pytest.raises(AzureBackupError):
        async with AzureBackupAsyncHook() as hook:
            await hook.get_job(JOB)
    await asyncio.sleep(0)
    assert connections_to(azure) == 0


async def test_many_waits_on_one_async_hook_share_one_token(azure: Emulator) -> None:
    jobs = [azure.start_job(f"fleet-{number:02}") for number in range(1, 21)]
    async with AzureBackupAsyncHook() as hook:
        found = await asyncio.gather(*(hook.get_job(job) for job in jobs))
    assert [job.ref.job_id for job in found] == jobs
    assert sign_ins(azure) == 1


async def test_an_async_hook_that_was_not_opened_says_how_to(azure: Emulator) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await AzureBackupAsyncHook().get_job(JOB)
