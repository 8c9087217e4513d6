"""Times as venues write them in text, `2026-08-09T21:05:48.228568804Z`: whole nanoseconds, not a datetime's micros."""

from datetime import datetime

__all__ = ["parse_ns"]

_starts: dict[str, int] = {}  # of whole seconds, int ns
_SCALES = [10 ** (9 - digits) for digits in range(10)]
KEPT = 256
NS_PER_S = 1_000_000_000
#: The year 2255: what int64 nanoseconds hold.
LAST_S = 9_000_000_000


def parse_ns(text: str) -> int | None:
    """Return int ns UTC; None for a time before 1970, which venues send for none. ValueError where it is no UTC time.

    Up to nine decimals; what is finer than that is cut off.
    """
    head = text[:19]
    start = _starts.get(head)
    if start is None:
        start = _start(head)
    if text[-1:] == "Z":
        fraction = text[20:-1]
    elif text.endswith("+00:00"):
        fraction = text[20:-6]
    else:
        raise ValueError(f"no time in UTC: {text[:40]!r}")
    if fraction:
        if text[19] != "." or not fraction.isdecimal():
            raise ValueError(f"no time: {text[:40]!r}")
        start += int(fraction) * _SCALES[len(fraction)] if len(fraction) <= 9 else int(fraction[:9])
    return start if start >= 0 else None


def _start(head: str) -> int:
    if len(head) != 19 or head[10] not in "T ":
        raise ValueError(f"no time: {head[:40]!r}")
    seconds = int(datetime.fromisoformat(head + "+00:00").timestamp())
    if seconds > LAST_S:
        raise ValueError(f"a time out of range: {head!r}")
    if len(_starts) >= KEPT:
        _starts.clear()
    start = _starts[head] = seconds * NS_PER_S
    return start
