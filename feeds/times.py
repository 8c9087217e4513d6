"""Venues' spellings of time as int nanoseconds. Pure."""

from datetime import UTC, datetime
from functools import lru_cache

from hub.intervals import NS_PER_S

__all__ = ["ns_of_rfc3339", "ns_of_seconds"]

#: In year 2255: what fits 64 bits as ns.
_NS_MAX = 9_000_000_000 * NS_PER_S


@lru_cache(maxsize=1024)
def _minute_ns(text: str) -> int:
    """`2026-08-02T03:35` -> ns; the texts of one minute share it."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS_PER_S


def ns_of_rfc3339(text: str) -> int:
    """Read `2026-08-02T03:35:51.660084Z`, up to nine digits of a second; ValueError where it is none, or not UTC."""
    seconds = text[17:-1]
    if text[-1:] != "Z" or text[16:17] != ":" or len(seconds.partition(".")[0]) != 2:
        raise ValueError(f"{text[:40]!r} is no time in UTC")
    return _bounded(_minute_ns(text[:16]) + _ns_of(seconds), text)


def ns_of_seconds(text: str) -> int:
    """Read unix seconds with up to nine decimals, `1617666423.606671`; ValueError where it is none."""
    return _bounded(_ns_of(text), text)


def _ns_of(seconds: str) -> int:
    whole, point, fraction = seconds.partition(".")
    if not whole.isdecimal() or len(seconds) > 30 or len(fraction) > 9 or (point and not fraction.isdecimal()):
        raise ValueError(f"{seconds[:40]!r} are no seconds")
    return int(whole) * NS_PER_S + (int(fraction.ljust(9, "0")) if point else 0)


def _bounded(ns: int, text: str) -> int:
    if not 0 <= ns <= _NS_MAX:
        raise ValueError(f"{text[:40]!r} is no time of today")
    return ns
