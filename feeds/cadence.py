"""How often a stream usually speaks, learned, so that silence is judged per stream and not by one fixed time. Pure."""

__all__ = ["Cadence"]


class Cadence:
    """Learns the mean gap between messages and tells when a silence is out of proportion.

    Counted once per tick of `tick_s`. A stream that spoke fewer than `LEARN` times is never judged, and no silence
    below `FLOOR_S` is: bursts and quiet spells are normal. The slow forgetting keeps a busy hour from condemning the
    quiet one after it.
    """

    __slots__ = ("_count", "_gap_s", "_heard", "_silent_s", "stale")

    FLOOR_S = 30.0
    FACTOR = 30.0
    LEARN = 20
    ALPHA = 0.02

    def __init__(self) -> None:
        self._heard = 0
        self._count = 0
        self._gap_s = 0.0
        self._silent_s = 0.0
        self.stale = False

    @property
    def gap_s(self) -> float:
        """Return the usual gap in seconds."""
        return self._gap_s

    def tick(self, count: int, tick_s: float) -> bool:
        """Take the number of messages so far; True when `stale` changed."""
        new, self._count = count - self._count, count
        if new <= 0:
            self._silent_s += tick_s
            limit = max(self.FLOOR_S, self.FACTOR * self._gap_s)
            if self.stale or self._heard < self.LEARN or self._silent_s < limit:
                return False
            self.stale = True
            return True
        gap = (self._silent_s + tick_s) / new
        self._gap_s = gap if self._heard == 0 else self._gap_s + self.ALPHA * (gap - self._gap_s)
        self._heard += new
        self._silent_s = 0.0
        changed, self.stale = self.stale, False
        return changed

    @property
    def silent_s(self) -> float:
        return self._silent_s
