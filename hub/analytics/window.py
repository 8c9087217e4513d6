"""Sums over the last seconds. Pure.

Time is cut into BINS bins per window; a window holds the last BINS of them, the one that is not over included. So it
spans between (BINS - 1) / BINS of its length and all of it, and its memory is bounded. What leaves is not subtracted,
which would leave rounding errors behind for ever: sums of what stays are kept instead (a queue made of two stacks).
"""

from typing import Final

__all__ = ["BINS", "WindowSum"]

BINS: Final = 100


class WindowSum:
    """Sum and count of the values of the last `length_s` seconds. Amortised O(1) per call."""

    __slots__ = ("_back", "_back_count", "_back_sum", "_front", "_newest", "_width")

    def __init__(self, length_s: int) -> None:
        self._width = length_s * 1_000_000_000 // BINS
        self._front: list[tuple[int, float, int]] = []  # bin, sum and count of it and all newer ones here; oldest last
        self._back: list[list[float]] = []  # newest last: sum, count
        self._back_sum, self._back_count = 0.0, 0
        self._newest: list[int] = []  # bins of _back

    def add(self, value: float, now: int) -> None:
        """Count `value` at `now` (int ns); a clock that went back counts in the newest bin."""
        here = now // self._width
        if self._newest and self._newest[-1] >= here:
            last = self._back[-1]
            last[0] += value
            last[1] += 1
        else:
            self._expire(here)
            self._back.append([value, 1])
            self._newest.append(here)
        self._back_sum += value
        self._back_count += 1

    def read(self, now: int) -> tuple[float, int]:
        """Return sum and count as of `now` (int ns)."""
        self._expire(now // self._width)
        if not self._front:
            return self._back_sum, self._back_count
        _, total, count = self._front[-1]
        return total + self._back_sum, count + self._back_count

    def _expire(self, here: int) -> None:
        gone = here - BINS
        front = self._front
        while True:
            while front and front[-1][0] <= gone:
                front.pop()
            if front or not self._newest or self._newest[0] > gone:
                return
            total, count = 0.0, 0
            for number, (value, several) in zip(reversed(self._newest), reversed(self._back), strict=True):
                total += value
                count += int(several)
                front.append((number, total, count))
            self._back, self._newest = [], []
            self._back_sum, self._back_count = 0.0, 0
