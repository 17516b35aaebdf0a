from __future__ import annotations

import pytest

from airflow_provider_azbackup.core.wire import Request, Response
from tests.support.play import sample

AT = 1_790_000_000.0  # Mon, 21 Sep 2026 14:13:20 GMT


def response(stated: str = "", *, status: int = 503, text: str = "") -> Response:
    return Response(status=status, at=AT, headers={"retry-after": stated} if stated else {}, text=text)


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [
        ("60", 60.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("Mon, 21 Sep 2026 14:15:00 GMT", 100.0),
        ("Mon, 21 Sep 2026 16:15:00 +0200", 100.0),
        ("Mon, 21 Sep 2026 14:00:00 GMT", 0.0),  # past: at once
        ("soon", None),
        ("-5", None),
        ("9999999", None),  # a hundred days: no wait of ours, a mistake of somebody's
        ("Mon, 01 Jan 99999 00:00:00 GMT", None),
        ("nan", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(stated: str, seconds: float | None) -> None:
    assert response(stated).retry_after == seconds


def test_the_words_of_a_429_stand_in_for_a_header_that_was_stripped() -> None:
    text = str(sample("error_throttled"))
    assert response(status=429, text=text).retry_after == 324.0
    assert response("400", status=429, text=text).retry_after == 400.0
    assert response("soon", status=429, text=text).retry_after == 324.0
    assert response(status=503, text=text).retry_after is None
    assert response(status=429, text="slow down").retry_after is None


def test_a_call_is_put_off_without_becoming_another_call() -> None:
    request = Request(method="GET", path="/x", query=(("a", "b"),))
    assert request.delayed(30.0) == Request(method="GET", path="/x", query=(("a", "b"),), delay=30.0)
    assert request.delayed(-1.0).delay == 0.0
    assert request.delay == 0.0
