"""Candle intervals: the names that exist and their lengths. A leaf module; it imports nothing of the hub."""

from typing import Final

__all__ = ["INTERVALS", "NS_PER_MS", "NS_PER_S", "interval_ns"]

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
