"""How often somebody may do something: a rate with a burst, per address, subject or connection. Pure.

The generic cell rate algorithm: one number per name, the time at which it would be even again.
"""

from typing import Final

__all__ = ["Rates", "wait_s"]

NAMES_MAX: Final = 50_000


def wait_s(even_at: float, now: float, per_s: float, burst_s: float) -> float:
    """Return how long (s) to wait until the next one fits, 0 where it does. `even_at` and `now` share a clock."""
    # A burst holds at least one, however slow the rate is.
    return max(0.0, even_at - now - max(0.0, burst_s - 1 / per_s))


class Rates:
    """`per_s` of something per name, `burst_s` seconds' worth of it at once; 0: no limit.

    Names are bounded: those that are even again are forgotten first, then those heard longest ago.
    """

    def __init__(self, per_s: float, burst_s: float) -> None:
        self.per_s, self.burst_s = per_s, burst_s
        self.refused = 0
        self._even_at: dict[str, float] = {}

    def take(self, name: str, now: float) -> float:
        """Count one; returns 0.0, or the seconds to wait where it is one too many (then it is not counted)."""
        if not self.per_s:
            return 0.0
        even_at = max(self._even_at.pop(name, now), now)
        wait = wait_s(even_at, now, self.per_s, self.burst_s)
        if wait:
            self.refused += 1
        else:
            even_at += 1 / self.per_s
            if len(self._even_at) >= NAMES_MAX:
                self._forget(now)
        self._even_at[name] = even_at  # at the end: the order is that of the last use
        return wait

    def _forget(self, now: float) -> None:
        self._even_at = {name: even_at for name, even_at in self._even_at.items() if even_at > now}
        for name in list(self._even_at)[: len(self._even_at) - NAMES_MAX // 2]:
            del self._even_at[name]
