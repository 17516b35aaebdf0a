"""Moments and durations as the recorded service writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

NEVER = "0001-01-01T00:00:00"  # without a zone, as recorded
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(at: float) -> str:
    """Unix time as .NET prints it: up to seven digits of a second, trailing zeros cut."""
    ticks = round(at * 10_000_000)
    whole = _EPOCH + timedelta(seconds=ticks // 10_000_000)
    fraction = f".{ticks % 10_000_000:07}".rstrip("0").rstrip(".")
    return f"{whole:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def read_moment(text: object) -> float:
    """Return a client's date and time as Unix time. Without a time zone it is UTC.

    :raises ValueError: if the text is not a date and time.
    """
    try:
        when = datetime.fromisoformat(str(text))
        return when.replace(tzinfo=when.tzinfo or UTC).timestamp()
    except OverflowError as error:  # its offset leads to a date that cannot be represented
        raise ValueError(str(error)) from None


def american(at: float) -> str:
    """Unix time as property bags print it: ``6/19/2023 12:00:00 AM``, whatever the locale of this process."""
    when = _EPOCH + timedelta(seconds=int(at))
    half = "AM" if when.hour < 12 else "PM"
    return f"{when.month}/{when.day}/{when.year} {when.hour % 12 or 12}:{when:%M:%S} {half}"


def duration(seconds: float) -> str:
    """Seconds in ISO 8601, negative ones included: ``PT41M18.0540469S``, ``-PT4M20.8890416S``."""
    sign, ticks = ("-" if seconds < 0 else ""), round(abs(seconds) * 10_000_000)
    minutes, rest = divmod(ticks, 600_000_000)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    secs = f"{rest / 10_000_000:.7f}".rstrip("0").rstrip(".")
    parts = (("H", hours), ("M", minutes))
    time = "".join(f"{value}{unit}" for unit, value in parts if value)
    tail = f"{secs}S" if secs != "0" or not (time or days) else ""
    return f"{sign}P{f'{days}D' if days else ''}{'T' if time or tail else ''}{time}{tail}"


def clock_duration(seconds: float) -> str:
    """Seconds as samples of 2016 to 2018 have them: ``00:20:23.0896697``, ``1.09:22:25.7992056``."""
    whole, ticks = divmod(round(seconds * 10_000_000), 10_000_000)
    minutes, secs = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{f'{days}.' if days else ''}{hours:02}:{minutes:02}:{secs:02}.{ticks:07}"
