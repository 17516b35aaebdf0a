"""Odd and hostile input: every request is answered, soon, and with the caller's own mistake."""

from __future__ import annotations

import json
import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azure_backup_emulator import Emulator
from azure_backup_emulator.arm.faults import Fault, searcher
from azure_backup_emulator.arm.gateway import Request, Response
from azure_backup_emulator.service import COMMANDS, Service
from tests.emulator.conftest import SUBSCRIPTION, VAULT, Client
from tests.support.clock import ManualClock

BACKUP_VAULT = VAULT.replace(
    "RecoveryServices/vaults/demo-vault", "DataProtection/backupVaults/demo-backup-vault"
)


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def raw(azure: Emulator, sent: bytes) -> bytes:
    """Send bytes as they are, and return the beginning of what comes back."""
    trust = ssl.create_default_context(cafile=azure.ca_bundle)
    with (
        socket.create_connection(("localhost", azure.port), timeout=5) as plain,
        trust.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(sent)
        return secure.recv(4096)


def control(azure: Emulator, *headers: str, host: str = "localhost") -> int:
    """The status of a reset that is asked for with these headers."""
    lines = ["POST /_emulator/reset HTTP/1.1", f"Host: {host}", "Content-Length: 0", *headers, "", ""]
    return int(raw(azure, "\r\n".join(lines).encode()).split()[1])


# Other web pages


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8443", "127.0.0.1:{port}", "[::1]:{port}"])
def test_a_client_of_this_computer_is_answered(azure: Emulator, host: str) -> None:
    assert control(azure, host=host.format(port=azure.port)) == 200
    assert control(azure, "Origin: https://localhost:3000") == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example:8443", "evil@localhost", "", "127.0.0.1.nip.io", "0.0.0.0"],
)
def test_a_name_that_was_rebound_to_this_computer_is_refused(azure: Emulator, host: str) -> None:
    azure.fault(status=503)
    assert control(azure, host=host) == 403
    assert azure.service.state()["faults"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "https://localhost.evil.example", "file://"]
)
def test_a_page_of_another_site_cannot_use_the_control_endpoint(azure: Emulator, origin: str) -> None:
    azure.fault(status=503)
    assert control(azure, f"Origin: {origin}") == 403
    assert azure.service.state()["faults"]


# Patterns and filters


def seconds_of(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


@pytest.mark.parametrize(
    "path", ["(a+)+$", "(a|aa)*$", "a?a?a?a?aaaa", r"(a)\1", "a{1,99}", "a+", "[", "a\\", "[z-a]"]
)
def test_a_pattern_that_could_hang_the_emulator_is_refused(client: Client, path: str) -> None:
    reply = client.session.post(
        f"{client.azure.url}/_emulator/fault", json={"path": path, "status": 503}, timeout=10
    )
    assert reply.status_code == 400
    assert "fault: path" in reply.json()["error"]


@pytest.mark.parametrize(
    "path", [".*a" * 160, "a.*" * 160 + "b", "|".join(["a.*b"] * 100), "." * 499 + "$", "[a]" * 160 + "b"]
)
def test_a_pattern_on_a_text_that_is_made_for_it_ends_soon(path: str) -> None:
    assert seconds_of(lambda: searcher(path).match("a" * 8000)) < 2


@pytest.mark.parametrize(
    "path", ["/backup", r"/backup\?", ".*/cancel$", "^/a.*b|c[?&]d", ".", "a.c$", "[^/]b", ""]
)
@given(target=st.text("/abc?&x", max_size=12))
def test_a_pattern_finds_what_a_regular_expression_finds(path: str, target: str) -> None:
    expected = re.search(path, target, re.IGNORECASE | re.DOTALL) is not None
    assert (searcher(path).match(target) is not None) == expected


@pytest.mark.parametrize(
    "text",
    ["status eq 'a" + " " * 5000, "status eq " + "a " * 3000, " " * 8000 + "x", "status eq 'a' and " * 400],
)
def test_a_filter_that_is_made_to_hang_is_refused_soon(client: Client, text: str) -> None:
    assert seconds_of(lambda: client.get(f"{VAULT}/backupJobs", params={"$filter": text})) < 2
    assert client.get(f"{VAULT}/backupJobs", params={"$filter": text}).status_code == 400


def test_a_quote_inside_a_filter_is_written_twice(client: Client) -> None:
    found = client.get(
        f"{VAULT}/backupJobs", params={"$filter": "status eq 'it''s' and operation eq 'Backup'"}
    )
    assert found.json() == {"value": []}


# Requests that nobody sends


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    *(
        "properties",
        "objectType",
        "backupType",
        "recoveryPointExpiryTimeInUTC",
        "recoveryType",
        "restoreFileSpecs",
    ),
    *("targetDetails", "targetInfo", "storageAccountId", "pointInTime", "copyOptions", "restoreRequestType"),
    *("backupRuleOptions", "ruleName", "triggerOption", "retentionTagOverride", "restoreRequestObject"),
    *("restoreTargetInfo", "sourceDataStoreType", "recoveryPointId", "recoveryPointTime", "datasourceInfo"),
    *("recoveryOption", "restoreCriteria", "resourceType", "resourceId", "resourceID", "overwriteOption"),
)
WORDS = st.sampled_from(
    (
        *(
            "IaasVMBackupRequest",
            "AzureWorkloadBackupRequest",
            "IaasVMRestoreRequest",
            "OriginalLocation",
            "Full",
        ),
        *(
            "AzureFileShareRestoreRequest",
            "Overwrite",
            "ItemLevelRestore",
            "BackupHourly",
            "OperationalStore",
        ),
        *("AzureBackupRecoveryPointBasedRestoreRequest", "RestoreTargetInfo", "FailIfExists", "VM"),
        *("9999-12-31T23:59:59-23:59", "0001-01-01", "\x00", "\ud83d"),
    )
)
BODIES = st.recursive(
    WORDS | JUNK,
    lambda inner: st.dictionaries(st.sampled_from(FIELDS), inner, max_size=8) | st.lists(inner, max_size=2),
    max_leaves=20,
)


class Bare:
    """The emulator without a socket, on which a mistake of its own comes up as what it is.

    It is as if just started, with one job of ``vm-good`` and one of ``disk-good``.
    """

    clock = ManualClock()
    service = Service(clock=clock, speed=1, seed=None)

    def __init__(self) -> None:
        self.service.reset()
        self.jobs = [self.service.start_job(name) for name in ("vm-good", "disk-good")]
        identity = self.service.identity
        token = identity.token(identity.principals["operator"], "https://management.azure.com")
        self.headers = {"authorization": f"Bearer {token}"}

    def send(self, method: str, path: str, body: Any = None, **query: str) -> Response:
        request = Request(
            method=method,
            path=path,
            query={"api-version": "2026-07-01", **query},
            headers=self.headers,
            body=b"" if body is None else json.dumps(body).encode(),
            base="https://localhost",
        )
        answer = (
            self.service.control(request) if path.startswith("/_emulator") else self.service.answer(request)
        )
        json.dumps(answer.body if not isinstance(answer.body, bytes) else None, allow_nan=False)
        assert answer.status < 500
        return answer

    def read_all(self) -> None:
        """Read whatever shows what was asked before."""
        world = self.service.world
        for vault in (VAULT, BACKUP_VAULT):
            self.send("GET", f"{vault}/backupJobs")
            for job in world.jobs:
                self.send("GET", f"{vault}/backupJobs/{job}")
        for item in (self.item("vm-good"), self.item("disk-good")):
            self.send("GET", item)
            self.send("GET", f"{item}/recoveryPoints")
        self.send("GET", f"{VAULT}/backupProtectedItems")
        self.send("GET", f"{BACKUP_VAULT}/backupInstances")

    def item(self, name: str) -> str:
        return self.service.world.named(name)[0].path


POSTS = (
    *("vm-good/backup", "vm-good/recoveryPoints/1/restore", "documents/backup", "disk-good/backup"),
    *("documents/recoveryPoints/1/restore", "payroll/recoveryPoints/DefaultRangeRecoveryPoint/restore"),
    *("disk-good/restore", "disk-good/validateRestore", "democontinuous/findRestorableTimeRanges"),
)
QUICK = settings(max_examples=100, deadline=None)


@QUICK
@given(body=BODIES, what=st.sampled_from(POSTS))
def test_any_json_is_answered_with_the_callers_mistake(body: Any, what: str) -> None:
    bare = Bare()
    bare.service.start_job("documents", seconds=0, ago=60)
    name, _, action = what.partition("/")
    bare.clock.advance(5000)
    point = next(iter(bare.send("GET", f"{bare.item(name)}/recoveryPoints").body["value"]), {"name": "1"})
    bare.send("POST", f"{bare.item(name)}/{action.replace('/1/', '/' + point['name'] + '/')}", body)
    bare.send("POST", f"{SUBSCRIPTION}/providers/Microsoft.RecoveryServices/locations/x/backupStatus", body)
    bare.read_all()


ARGUMENTS = st.sampled_from(
    (
        *("item", "ending", "seconds", "error", "operation", "validation", "operation_seconds", "busy"),
        *("cancel", "cancel_seconds", "visible_after", "quirks", "point", "backup_type", "ago", "job_id"),
        *("deleted_ago", "status", "path", "times", "after", "latency", "retry_after", "garbage", "redirect"),
        *("next_link", "html", "empty", "token_lifetime", "job_read_budget", "page_size", "clock_skew"),
        *("newest_api_version", "expired_secrets", "expires", "excluded", "disks", "tiers", "method"),
        *("threat", "state", "self", "return", "partial", "before_start", "consistency", "vaulted_after"),
    )
)
VALUES = st.sampled_from((503, 204, 1e9, -1e9, -1, 0, 1, 2, "Never", "vm-good", "Failed", "job", [], {}))


@QUICK
@given(
    command=st.sampled_from(sorted(name for method, name in COMMANDS if method == "POST")),
    arguments=st.dictionaries(ARGUMENTS, JUNK | VALUES, max_size=3),
    named=st.booleans(),
)
def test_any_control_request_leaves_an_emulator_that_answers(
    command: str, arguments: dict[str, Any], named: bool
) -> None:
    bare = Bare()
    if named:
        arguments |= {
            "start_job": {"item": "vm-good"},
            "plan": {"item": "vm-good"},
            "protect": {"item": "vm-good"},
            "change_point": {"job_id": bare.jobs[0]},
            "set_status": {"job_id": bare.jobs[0]},
        }.get(command, {})
    assert bare.send("POST", f"/_emulator/{command}", arguments).status in (200, 400)
    bare.send("POST", f"{bare.item('vm-good')}/backup", {"properties": {"objectType": "IaasVMBackupRequest"}})
    bare.read_all()


TWO = b"Content-Length: 2\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "statuses"),
    [
        (
            b"POST %s/backup HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n" % VAULT.encode(),
            (413,),
        ),
        (b"BREW /pot HTTP/1.1\r\nHost: localhost\r\n\r\n", (400, 401, 404)),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", (400, 401, 404)),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", (400, 401, 404)),
        (b"GET http://evil.example/x HTTP/1.1\r\nHost: localhost\r\n\r\n", (400, 401, 403, 404)),
        (b"GET /%ff%00?a=%ff&$skipToken=%e2 HTTP/1.1\r\nHost: localhost\r\n\r\n", (400, 401, 404)),
        (b"GET /msi/token HTTP/1.1\r\nHost: localhost\r\nX-IDENTITY-HEADER: \xff\xfe\r\n\r\n", (401,)),
        (
            b"GET /x HTTP/1.1\r\nHost: localhost\r\nx-ms-client-request-id: \xff\xe2\x82\xac\r\n\r\n",
            (400, 401),
        ),
        (b"GET /x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff.\xff.\xff\r\n\r\n", (401,)),
        (b"GET /x HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", (400, 403)),
        (b"GET /x HTTP/1.1\r\n\r\n", (400, 403)),
        (b"POST /_emulator/plan HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n\xff\xfe", (400,)),
        (b"POST /_emulator/plan HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\n%sno" % TWO, (400,)),
        (
            b"POST /_emulator/plan HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            (400,),
        ),
    ],
    ids=lambda value: value.split(b"\r")[0].decode(errors="replace") if isinstance(value, bytes) else "",
)
def test_odd_bytes_are_answered(azure: Emulator, request_: bytes, statuses: tuple[int, ...]) -> None:
    assert int(raw(azure, request_).split()[1]) in statuses


def test_a_body_that_is_no_form_is_no_sign_in(azure: Emulator, client: Client) -> None:
    address = f"{azure.url}/{azure.service.identity.tenant}/oauth2/v2.0/token"
    for data in (b"\xff\xfe", b"client_id=%ff&scope=\x00", b"&" * 100_000):
        assert client.session.post(address, data=data, timeout=10).status_code == 400


def test_json_that_is_nested_without_end_is_refused(azure: Emulator, client: Client) -> None:
    deep = '{"properties":' + "[" * 200_000
    headers = {"Authorization": f"Bearer {client.token()}"}
    for path in (f"{client.item('vm-good')}/backup?api-version=2026-07-01", "/_emulator/plan"):
        reply = client.session.post(azure.url + path, data=deep, headers=headers, timeout=10)
        assert reply.status_code == 400


def test_a_token_of_somebody_elses_making_is_refused(client: Client) -> None:
    for claims in ("W1tbWw", "bnVsbA", "eyJhcHBpZCI6NX0", "W" * 7000):
        reply = client.get(VAULT, headers={"Authorization": f"Bearer e30.{claims}.x"})
        assert reply.status_code == 401


def test_a_scope_that_is_no_header_reaches_nobody(azure: Emulator, client: Client) -> None:
    connection = azure.connection()
    form = {
        "client_id": connection["login"],
        "client_secret": connection["password"],
        "grant_type": "client_credentials",
        "scope": 'x\r\nSet-Cookie: "y"/.default',
    }
    address = f"{azure.url}/{connection['extra']['tenant_id']}/oauth2/v2.0/token"
    token = client.session.post(address, data=form, timeout=10).json()["access_token"]
    reply = client.get(VAULT, headers={"Authorization": f"Bearer {token}"})
    assert reply.status_code == 401
    assert "Set-Cookie" not in reply.headers


@pytest.mark.parametrize("token", ["x", "%ff", "é", "/w==", "====", "//////"])
def test_a_skip_token_that_nobody_gave_is_refused_or_begins_anew(client: Client, token: str) -> None:
    assert client.get(f"{VAULT}/backupJobs", params={"$skipToken": token}).status_code in (200, 400)


@pytest.mark.parametrize(
    "changes",
    [
        {"page_size": 0},
        {"page_size": -3},
        {"page_size": 2.5},
        {"job_read_budget": -1},
        {"quirks": "older-words"},
    ],
)
def test_a_setting_that_cannot_work_is_refused(azure: Emulator, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        azure.configure(**changes)


def test_an_unknown_key_of_a_fault_is_refused_with_the_nearest_one(azure: Emulator) -> None:
    with pytest.raises(
        ValueError, match=r"fault: unknown key 'stauts' \(did you mean 'status'\?\); expected method"
    ):
        azure.fault(stauts=503)
    with pytest.raises(ValueError, match="fault: status must be a whole number or null, not '503'"):
        azure.fault(status="503")
    assert Fault(status=503).times == 1


# Seeds


VM = {"kind": "VM", "name": "web", "group": "g"}


@pytest.mark.parametrize(
    ("seed", "reason"),
    [
        ({"itmes": []}, "seed: unknown key 'itmes' (did you mean 'items'?)"),
        ({"items": [{**VM, "plans": {}}]}, "seed: items[0]: unknown key 'plans' (did you mean 'plan'?)"),
        ({"items": [{**VM, "plan": {"endings": "Failed"}}]}, "plan of web: unknown key 'endings'"),
        (
            {"items": [{**VM, "plan": {"seconds": "5"}}]},
            "plan of web: seconds must be a number or null, not '5'",
        ),
        (
            {"items": [{**VM, "plan": {"point": {"disk": 2}}}]},
            "point: unknown key 'disk' (did you mean 'disks'?)",
        ),
        ({"items": [{"kind": "VM", "name": "web"}]}, "seed: items[0]: group must be given"),
        ({"items": [{**VM, "kind": "VMs"}]}, "seed: items[0]: kind 'VMs' is not one of VM"),
        ({"items": [{**VM, "vault": "x"}]}, "seed: items[0]: vault 'x' is not one of demo-vault"),
        ({"items": [{**VM, "name": "a/b"}]}, "seed: 'a/b' cannot be part of an ARM id"),
        ({"items": [VM, VM]}, "seed: two items are one in Azure"),
        ({"items": "web"}, "seed: items must be a list, not 'web'"),
        ({"region": None}, "seed: region must be text, not None"),
        ({"backup_instances": [{**VM, "kind": "Disk"}]}, "backup_instances[0]: policy None is not one of"),
        ({"backup_policies": {}}, "seed: backup_instances[0]: policy 'disk-policy' is not one of"),
        ({"principals": {"me": {"client_id": "x"}}}, "seed: principals.me: actions must be given"),
        ({"principals": {"me": {"client_id": 1, "actions": []}}}, "client_id must be text, not 1"),
    ],
)
def test_a_seed_with_a_mistake_is_refused_with_its_place(seed: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        Service(clock=ManualClock(), speed=1, seed=seed)


def test_an_application_id_is_found_in_any_case(client: Client) -> None:
    seed = {"principals": {"operator": {"client_id": "ABC", "actions": ["*"], "secret": "s"}}}
    service = Service(clock=ManualClock(), speed=1, seed=seed)
    assert service.identity.by_client_id("abc") is service.identity.by_client_id("ABC") is not None
