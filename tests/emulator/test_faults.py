"""Trouble on demand, each kind met the way a client meets it; and the control endpoint that orders it."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import aiohttp
import pytest
import requests
from azure.core import PipelineClient
from azure.core.pipeline.policies import BearerTokenCredentialPolicy
from azure.core.rest import HttpRequest
from azure.identity import ClientSecretCredential

from azure_backup_emulator import Emulator
from tests.emulator.conftest import VAULT, Client

JOBS = f"{VAULT}/backupJobs"
BODY = {"properties": {"objectType": "IaasVMBackupRequest"}}


def _back_up(client: Client) -> Any:
    return client.post(f"{client.item('vm-good')}/backup", BODY)


def _jobs(client: Client) -> int:
    return len(client.azure.service.world.jobs)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (429, "TooManyRequests"),
        (500, "CloudInternalError"),
        (502, "InvalidGatewayHost"),
        (503, "ServerTimeout"),
        (504, "GatewayTimeout"),
    ],
)
def test_a_status_comes_with_its_recorded_code(
    azure: Emulator, client: Client, status: int, code: str
) -> None:
    azure.fault(status=status, retry_after=7)
    reply = client.get(JOBS)
    assert (reply.status_code, reply.json()["error"]["code"], reply.headers["Retry-After"]) == (
        status,
        code,
        "7",
    )
    assert reply.headers["x-ms-failure-cause"] in ("gateway", "service")
    assert client.get(JOBS).status_code == 200


def test_code_and_message_can_be_given(azure: Emulator, client: Client) -> None:
    azure.fault(status=400, code="UserErrorX", message="Because.")
    assert client.get(JOBS).json() == {"error": {"code": "UserErrorX", "message": "Because."}}


def test_a_fault_applies_to_what_it_matches_as_often_as_it_says(azure: Emulator, client: Client) -> None:
    azure.fault(method="GET", path=r"backupjobs\?", after=1, times=2, status=503)
    assert [client.get(JOBS).status_code for _ in range(5)] == [200, 503, 503, 200, 200]
    azure.fault(method="POST", status=500, times=None)
    assert [_back_up(client).status_code for _ in range(3)] == [500] * 3
    assert client.get(VAULT).status_code == 200
    azure.clear_faults()
    assert _back_up(client).status_code == 202


def test_without_a_path_a_fault_leaves_signing_in_alone(azure: Emulator, client: Client) -> None:
    azure.fault(status=503, times=None)
    tenant = azure.connection()["extra"]["tenant_id"]
    address = f"{azure.url}/{tenant}/v2.0/.well-known/openid-configuration"
    assert client.session.get(address, timeout=10).status_code == 200
    azure.fault(path="openid-configuration", status=500)
    assert client.session.get(address, timeout=10).status_code == 500


@pytest.mark.parametrize("processed", [False, True])
def test_a_lost_or_replaced_answer_may_or_may_not_have_had_its_effect(
    azure: Emulator, client: Client, processed: bool
) -> None:
    azure.fault(method="POST", status=504, processed=processed)
    assert _back_up(client).status_code == 504
    assert _jobs(client) == int(processed)
    azure.reset()
    azure.fault(method="POST", reset=True, processed=processed)
    with pytest.raises(requests.ConnectionError):
        _back_up(client)
    assert _jobs(client) == int(processed)
    assert azure.requests[-1]["status"] is None


async def test_a_reset_reaches_an_asynchronous_client_as_a_connection_error(
    azure: Emulator, client: Client
) -> None:
    azure.fault(path="/backup", reset=True)
    ssl = _context(azure)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=ssl)) as session:
        headers = {"Authorization": f"Bearer {client.token()}"}
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.post(f"{azure.url}{client.item('vm-good')}/backup", headers=headers)


def _context(azure: Emulator) -> Any:
    import ssl

    return ssl.create_default_context(cafile=azure.ca_bundle)


async def test_a_truncated_answer_breaks_off_in_its_body(azure: Emulator, client: Client) -> None:
    azure.fault(path="/backupProtectedItems", truncate=True, times=None)
    address = f"{VAULT}/backupProtectedItems"
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        client.get(address)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=_context(azure))) as session:
        headers = {"Authorization": f"Bearer {client.token()}"}
        url = f"{azure.url}{address}?api-version=2026-07-01"
        async with session.get(url, headers=headers) as reply:
            assert reply.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await reply.read()


def test_bodies_can_be_html_empty_or_garbage(azure: Emulator, client: Client) -> None:
    azure.fault(html=True)
    azure.fault(empty=True)
    azure.fault(garbage='{"id": "half', status=200)
    html, empty, garbage = (client.get(JOBS) for _ in range(3))
    assert (html.status_code, html.headers["Content-Type"]) == (502, "text/html")
    assert html.text.startswith("<html>")
    assert (empty.status_code, empty.content) == (200, b"")
    assert (garbage.status_code, garbage.text) == (200, '{"id": "half')
    assert garbage.headers["Content-Type"].startswith("application/json")


def test_latency_delays_the_normal_answer(azure: Emulator, client: Client) -> None:
    azure.fault(path="/backupJobs", latency=0.3)
    before = time.monotonic()
    assert client.get(JOBS).status_code == 200
    assert time.monotonic() - before >= 0.3
    azure.fault(path="/backupJobs", latency=5)
    with pytest.raises(requests.ReadTimeout):
        client.session.get(f"{azure.url}{JOBS}", timeout=0.1)


def test_an_expired_token_stays_expired_and_a_new_one_works(azure: Emulator, client: Client) -> None:
    old = {"Authorization": f"Bearer {client.token()}"}
    azure.fault(expire_token=True)
    for _ in range(2):
        reply = client.get(JOBS, headers=old)
        assert (reply.status_code, reply.json()["error"]["code"]) == (401, "ExpiredAuthenticationToken")
    assert client.get(JOBS).status_code == 200


def test_a_claims_challenge_is_met_with_a_token_asked_for_with_claims(
    azure: Emulator, client: Client
) -> None:
    azure.fault(path="/backupJobs", claims=True, times=None)
    reply = client.get(JOBS)
    challenge = reply.headers["WWW-Authenticate"]
    claims = challenge.partition('claims="')[2].partition('"')[0]
    assert (reply.status_code, 'error="insufficient_claims"' in challenge) == (401, True)
    assert "nbf" in json.loads(base64.urlsafe_b64decode(claims + "=="))["access_token"]
    connection = azure.connection()
    with ClientSecretCredential(
        connection["extra"]["tenant_id"],
        connection["login"],
        connection["password"],
        authority=azure.url,
        disable_instance_discovery=True,
        connection_verify=azure.ca_bundle,
    ) as credential:
        policy = BearerTokenCredentialPolicy(
            credential, "https://management.azure.com/.default", enable_cae=True
        )
        with PipelineClient(azure.url, policies=[policy], connection_verify=azure.ca_bundle) as pipeline:
            request = HttpRequest("GET", azure.url + JOBS, params={"api-version": "2026-07-01"})
            assert pipeline.send_request(request, connection_verify=azure.ca_bundle).status_code == 200
    assert [entry["status"] for entry in azure.requests if "/backupJobs" in entry["path"]] == [401, 401, 200]


def test_a_redirect_and_a_next_link_can_point_elsewhere(azure: Emulator, client: Client) -> None:
    azure.fault(redirect="https://elsewhere.example")
    reply = client.get(JOBS, allow_redirects=False)
    assert (reply.status_code, reply.headers["Location"]) == (307, f"https://elsewhere.example{JOBS}")
    azure.fault(path="/backupJobs", next_link="https://elsewhere.example")
    assert client.get(JOBS).json()["nextLink"].startswith("https://elsewhere.example/subscriptions/")


@pytest.mark.parametrize("name", ["times", "after", "latency"])
def test_a_fault_takes_no_negative_numbers(azure: Emulator, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be 0 or more, not -1"):
        azure.fault(status=503, **{name: -1})


def test_a_fault_in_which_nothing_happens_is_a_mistake(azure: Emulator) -> None:
    with pytest.raises(ValueError, match="needs something to happen"):
        azure.fault(path="/backupJobs")
    with pytest.raises(ValueError, match="colour"):
        azure.fault(colour="blue", status=500)


# The control endpoint


def _control(client: Client, name: str, body: Any = None) -> Any:
    method = "GET" if body is None else "POST"
    return client.session.request(method, f"{client.azure.url}/_emulator/{name}", json=body, timeout=10)


def test_the_control_endpoint_does_over_http_what_the_class_does(azure: Emulator, client: Client) -> None:
    assert "start_job" in _control(client, "").text
    assert _control(client, "plan", {"item": "vm-good", "ending": "Never"}).status_code == 200
    job_id = _control(client, "start_job", {"item": "vm-good", "seconds": 60}).json()["job_id"]
    assert _control(client, "set_status", {"job_id": job_id, "status": "Hibernating"}).status_code == 200
    assert client.job(job_id)["status"] == "Hibernating"
    _control(client, "configure", {"page_size": 5, "job_read_budget": 7, "token_lifetime": 60, "quirks": []})
    fault = _control(client, "fault", {"status": 503}).json()["id"]
    state = _control(client, "state").json()
    assert (state["faults"], state["page_size"], state["job_read_budget"]) == ([fault], 5, 7)
    assert state["jobs"][0]["status"] == "Hibernating"
    _control(client, "clear", {})
    seen = _control(client, "requests").json()
    assert [(entry["method"], entry["status"]) for entry in seen] == [("GET", 200)]
    _control(client, "reset", {})
    assert (_control(client, "requests").json(), _control(client, "state").json()["jobs"]) == ([], [])


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("plan", {"item": "vm-unknown"}),
        ("plan", {"item": "vm-good", "ending": "?"}),
        ("fault", {"colour": "blue"}),
        ("set_status", {"job_id": "x", "status": "y"}),
        ("configure", {"colour": "blue"}),
        ("configure", {"quirks": ["?"]}),
        ("start_job", {}),
        ("clear", ["not an object"]),
    ],
)
def test_a_mistake_at_the_control_endpoint_is_answered_with_its_reason(
    client: Client, name: str, body: Any
) -> None:
    reply = _control(client, name, body)
    assert (reply.status_code, bool(reply.json()["error"])) == (400, True)
    assert _control(client, "no-such-thing").status_code == 404


def test_recorded_requests_hold_no_token_and_no_secret(azure: Emulator, client: Client) -> None:
    connection = azure.connection()
    form = {
        "client_id": connection["login"],
        "client_secret": connection["password"],
        "grant_type": "client_credentials",
        "scope": "https://management.azure.com/.default",
    }
    address = f"{azure.url}/{connection['extra']['tenant_id']}/oauth2/v2.0/token"
    token = client.session.post(address, data=form, timeout=10).json()["access_token"]
    client.get(JOBS, headers={"Authorization": f"Bearer {token}"})
    text = json.dumps(azure.requests)
    assert token not in text
    assert connection["password"] not in text
    assert azure.count() == 2
    assert azure.count("POST", "/OAUTH2/", 200) == azure.count(path_contains="backupJobs", status=200) == 1
