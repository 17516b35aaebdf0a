"""No secret passes into a recording, wherever it stands; the same name becomes the same placeholder."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dev.live.redaction import LeakError, Redaction

SECRET = "kJ8~s3cr3t-Payroll.4711"
VAULT = (
    "/subscriptions/12345678-aaaa-bbbb-cccc-1234567890ab/resourceGroups/Payroll-rg"
    "/providers/Microsoft.RecoveryServices/vaults/payroll-vault"
)
FIELDS = [
    "name",
    "friendlyName",
    "status",
    "operation",
    "message",
    "value",
    "VM Name",
    "tags",
    "accessToken",
    "id",
]
# A value with the secret in it, as it is or as part of something that looks harmless.
PLANTED = st.sampled_from(
    [
        SECRET,
        f"VM;iaasvmcontainerv2;rg;{SECRET}",
        f"msdb [{SECRET}]",
        f"{VAULT}/backupPolicies/{SECRET}",
        f"https://account.blob.core.windows.net/vhds/a.vhd?sig={SECRET}",
        f"https://management.azure.com{VAULT}/backupOperations/1?s={SECRET}",
        f"Number of requests exceeded. Please try again after '324' seconds. {SECRET}",
        f"2026-11-30 {SECRET}",
        f"/mnt/{SECRET}",
    ]
)
BODIES = st.recursive(
    st.one_of(
        PLANTED, st.none(), st.booleans(), st.integers(), st.sampled_from(["Completed", "PT1H", "42 MB"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(FIELDS), PLANTED), inner, max_size=4),
    ),
    max_leaves=12,
)


def left(found: Any) -> bool:
    return SECRET.casefold() in json.dumps(found).casefold()


@settings(max_examples=150, deadline=None)
@given(body=BODIES)
def test_a_secret_passes_in_no_body(body: Any) -> None:
    assert not left(Redaction().body(json.dumps(body)))


@settings(max_examples=100, deadline=None)
@given(
    value=PLANTED, name=st.sampled_from(["date", "location", "retry-after", "set-cookie", "x-ms-request-id"])
)
def test_a_secret_passes_in_no_header_and_no_address(value: str, name: str) -> None:
    redaction = Redaction()
    assert not left(redaction.headers({name: value}))
    for address in (
        f"https://{SECRET}.example{VAULT}",
        f"https://management.azure.com{VAULT}/backupJobs?api-version={quote(value)}",
        f"https://management.azure.com{VAULT}/backupJobs?$filter=status eq '{quote(value)}'&$skipToken=x",
        f"https://management.azure.com{VAULT}/backupJobs/{quote(value, safe='')}",
        f"https://management.azure.com{VAULT}/backupJobs?{quote(value, safe='')}=1",
    ):
        assert not left(redaction.url(address)), address


def test_a_body_that_is_no_json_becomes_its_length() -> None:
    assert Redaction().body(f"<html>{SECRET}</html>") == f"<{len(SECRET) + 13} characters>"


def test_how_long_to_wait_is_kept_out_of_the_text_of_a_429() -> None:
    error = {
        "error": {"code": "ResourceRequestsThrottled", "message": "Please try again after '324' seconds."}
    }
    assert Redaction().body(json.dumps(error)) == {
        "error": {
            "code": "ResourceRequestsThrottled",
            "message": "<37 characters> try again after '324' seconds",
        }
    }


def test_the_same_name_has_the_same_placeholder_everywhere_and_azures_words_stay() -> None:
    redaction = Redaction()
    address = redaction.url(f"https://management.azure.com{VAULT}/backupJobs?api-version=2026-07-01")
    body = redaction.body(
        json.dumps(
            {
                "id": f"{VAULT}/backupJobs/aaaaaaaa-aaaa-bbbb-cccc-1234567890ab",
                "properties": {
                    "entityFriendlyName": "sql [payroll-vault]",
                    "containerName": "iaasvmcontainerv2;payroll-rg;web",
                    "status": "CompletedWithWarnings",
                    "duration": "PT1M2.5S",
                    "startTime": "2026-11-30T20:24:00.3157740Z",
                    "extendedInfo": {"propertyBag": {"Backup Size": "11374 MB", "VM Name": "web"}},
                },
            }
        )
    )
    assert address == (
        "https://management.azure.com/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/Name-1"
        "/providers/Microsoft.RecoveryServices/vaults/name-2/backupJobs?api-version=2026-07-01"
    )
    assert body["id"].startswith(address.removeprefix("https://management.azure.com").partition("?")[0])
    assert body["properties"] == {
        "entityFriendlyName": "name-3 [name-2]",
        "containerName": "iaasvmcontainerv2;name-1;name-4",
        "status": "CompletedWithWarnings",
        "duration": "PT1M2.5S",
        "startTime": "2026-11-30T20:24:00.3157740Z",
        "extendedInfo": {"propertyBag": {"Backup Size": "11374 MB", "VM Name": "name-4"}},
    }


@pytest.mark.parametrize(
    ("arm_id", "redacted"),
    [
        ("{}/providers/NGINX.NGINXPLUS/nginxDeployments/payroll", "NGINX.NGINXPLUS/nginxDeployments/name-2"),
        (
            "{}/providers/Microsoft.Compute/virtualMachines/providers",
            "Microsoft.Compute/virtualMachines/name-2",
        ),
        ("{}/providers/Microsoft.Compute/no-type/payroll/payroll", "Microsoft.Compute/name-2/name-3/name-3"),
    ],
)
def test_a_name_that_is_a_plain_word_is_replaced_by_its_place(arm_id: str, redacted: str) -> None:
    group = "/subscriptions/12345678-aaaa-bbbb-cccc-1234567890ab/resourceGroups/backup"
    assert Redaction().path(arm_id.format(group)).partition("/providers/")[2] == redacted


def test_a_name_that_is_a_number_is_replaced() -> None:
    found = Redaction().body(json.dumps({"name": "4711", "VM Name": "4711", "Backup Size": "4711"}))
    assert found == {"name": "name-1", "VM Name": "name-1", "Backup Size": "4711"}


def test_what_was_replaced_is_counted() -> None:
    redaction = Redaction()
    redaction.body(json.dumps({"name": "web", "message": "It failed.", "tags": {"owner": "bob"}}))
    redaction.headers({"x-ms-request-id": "1"})
    assert redaction.replaced == {"fields dropped": 1, "headers left out": 1, "names": 1, "texts": 1}


def test_nothing_is_written_with_a_secret_of_the_connection_in_it() -> None:
    with pytest.raises(LeakError) as error:
        Redaction((SECRET,)).check(f"... {SECRET.upper()} ...")
    assert SECRET.casefold() not in str(error.value).casefold()
