"""Candle intervals: the names that exist and their lengths. A leaf module; of the hub it imports errors alone."""

import re
from typing import Final

from hub.errors import RequestError

__all__ = ["INTERVALS", "NS_PER_MS", "NS_PER_S", "interval_ns", "parse_interval"]

NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000

#: Name -> length in seconds. Longer than a day is left out: weeks and months do not align to the epoch.
INTERVALS: Final[dict[str, int]] = {
    "1s": 1, "5s": 5, "10s": 10, "15s": 15, "30s": 30,
    "1m": 60, "3m": 180, "5m": 300, "15m": 900, "30m": 1_800,
    "1h": 3_600, "2h": 7_200, "4h": 14_400, "6h": 21_600, "8h": 28_800, "12h": 43_200,
    "1d": 86_400,
}  # fmt: skip


def interval_ns(interval: str) -> int:
    """Return the length of `interval` in nanoseconds; KeyError for an unknown name."""
    return INTERVALS[interval] * NS_PER_S


_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
LONGEST_S: Final = 366 * 86_400


def parse_interval(text: str) -> int:
    """Return the length in seconds of any interval such as 45m, 2h, 7d; RequestError for what is none, or above 366d.

    Candles of every length are aligned to the epoch: those of 7d begin on Thursdays.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,7})([smhd])", text)
    length = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < length <= LONGEST_S:
        allowed = [*INTERVALS, "any number of s, m, h or d up to 366d"]
        raise RequestError("bad_parameter", f"interval = {text[:20]!r} is not possible", allowed)
    return length
