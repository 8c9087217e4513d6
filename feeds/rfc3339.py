"""Times as venues write them in text, `2026-08-09T21:05:48.228568804Z`: whole nanoseconds, not a datetime's micros."""

from datetime import datetime

__all__ = ["parse_ns"]

_seconds: dict[str, int] = {}
KEPT = 256
NS_PER_S = 1_000_000_000
#: The year 2255: what int64 nanoseconds hold.
LAST_S = 9_000_000_000


def parse_ns(text: str) -> int | None:
    """Return int ns UTC; None for a time before 1970, which venues send for none. ValueError where it is no UTC time.

    Up to nine decimals; what is finer than that is cut off.
    """
    head = text[:19]
    seconds = _seconds.get(head)
    if seconds is None:
        seconds = _second(head)
    tail = text[19:]
    if tail[-1:] == "Z":
        fraction = tail[1:-1]
    elif tail.endswith("+00:00"):
        fraction = tail[1:-6]
    else:
        raise ValueError(f"no time in UTC: {text[:40]!r}")
    if fraction:
        if tail[0] != "." or not (fraction.isascii() and fraction.isdecimal()):
            raise ValueError(f"no time: {text[:40]!r}")
        fraction = fraction[:9]
        ns = seconds * NS_PER_S + int(fraction) * 10 ** (9 - len(fraction))
    else:
        ns = seconds * NS_PER_S
    return ns if seconds >= 0 else None


def _second(head: str) -> int:
    if len(head) != 19 or head[10] not in "T ":
        raise ValueError(f"no time: {head[:40]!r}")
    seconds = int(datetime.fromisoformat(head + "+00:00").timestamp())
    if seconds > LAST_S:
        raise ValueError(f"a time out of range: {head!r}")
    if len(_seconds) >= KEPT:
        _seconds.clear()
    _seconds[head] = seconds
    return seconds
