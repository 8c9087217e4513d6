"""How long to wait before the next try: full jitter under a cap, reset only by success."""

import random

__all__ = ["Backoff"]


class Backoff:
    """Delays for one thing that is tried again and again. The first retry comes almost at once."""

    __slots__ = ("_base_s", "_cap_s", "_tries")

    def __init__(self, base_s: float = 0.25, cap_s: float = 30.0) -> None:
        self._base_s, self._cap_s = base_s, cap_s
        self._tries = 0

    def reset(self) -> None:
        self._tries = 0

    def next_s(self) -> float:
        """Return seconds to wait: random between half and all of a doubling, capped delay."""
        limit = min(self._cap_s, self._base_s * 2.0 ** min(self._tries, 30))
        self._tries += 1
        return random.uniform(limit / 2, limit)
