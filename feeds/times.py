"""Venues' spellings of time as int nanoseconds. Pure."""

from datetime import UTC, datetime
from functools import lru_cache

from hub.intervals import NS_PER_S

__all__ = ["ns_of_rfc3339", "ns_of_seconds"]

#: In year 2255: what fits 64 bits as ns.
_NS_MAX = 9_000_000_000 * NS_PER_S

#: digits of a fraction -> ns of its last digit
_SCALES = [10 ** (9 - digits) for digits in range(10)]


@lru_cache(maxsize=4096)
def _second_ns(text: str) -> int:
    """`2026-08-02T03:35:51` -> ns; the texts of one second share it."""
    if len(text) != 19 or text[10] != "T":
        raise ValueError(f"{text[:40]!r} is no time")
    return _bounded(int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS_PER_S, text)


def ns_of_rfc3339(text: str) -> int:
    """Read `2026-08-02T03:35:51.660084Z`, up to nine digits of a second; ValueError where it is none, or not UTC."""
    fraction = text[20:-1]
    if text[-1:] != "Z" or len(fraction) > 9 or not (len(text) == 20 or (text[19:20] == "." and fraction.isdecimal())):
        raise ValueError(f"{text[:40]!r} is no time in UTC")
    return _second_ns(text[:19]) + (int(fraction) * _SCALES[len(fraction)] if fraction else 0)


def ns_of_seconds(text: str) -> int:
    """Read unix seconds with up to nine decimals, `1617666423.606671`; ValueError where it is none."""
    whole, point, fraction = text.partition(".")
    if not whole.isdecimal() or len(whole) > 20 or len(fraction) > 9 or (point and not fraction.isdecimal()):
        raise ValueError(f"{text[:40]!r} are no seconds")
    return _bounded(int(whole) * NS_PER_S + (int(fraction) * _SCALES[len(fraction)] if fraction else 0), text)


def _bounded(ns: int, text: str) -> int:
    if not 0 <= ns <= _NS_MAX:
        raise ValueError(f"{text[:40]!r} is no time of today")
    return ns
