from __future__ import annotations

import json
import pickle

import pytest

from airflow_provider_azbackup import exceptions
from airflow_provider_azbackup.exceptions import AzureBackupError

KINDS = [
    kind
    for kind in vars(exceptions).values()
    if isinstance(kind, type) and issubclass(kind, AzureBackupError)
]
FACTS = {
    "status": 429,
    "code": "ResourceRequestsThrottled",
    "request_id": "7b1c9d2e",
    "retry_after": 324.0,
    "job": {"job_id": "0f8c2a51", "errors": [{"code": "400158"}]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_survives_pickling_and_the_way_from_triggerer_to_worker(
    kind: type[AzureBackupError],
) -> None:
    error = kind("what was tried, on what, and what came back", **FACTS)
    for copy in (
        pickle.loads(pickle.dumps(error)),
        AzureBackupError.from_facts(json.loads(json.dumps(error.facts()))),
    ):
        assert type(copy) is kind
        assert str(copy) == str(error)
        assert vars(copy) == vars(error) == FACTS


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_can_be_made_of_nothing(kind: type[AzureBackupError]) -> None:
    assert pickle.loads(pickle.dumps(kind())).facts() == {
        "type": kind.__name__,
        "message": "",
        **dict.fromkeys(FACTS),
    }


def test_an_error_of_another_release_is_still_an_error() -> None:
    error = AzureBackupError.from_facts({"type": "AzureBackupNewError", "message": "new", "colour": "red"})
    assert type(error) is AzureBackupError
    assert str(error) == "new"
    assert vars(error) == dict.fromkeys(FACTS)


def test_a_mistake_of_the_author_is_a_value_error_too() -> None:
    assert issubclass(exceptions.AzureBackupConfigError, ValueError)
    assert len(KINDS) == 17
