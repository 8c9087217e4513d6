"""What a feed says about itself: one state for the venue, one per symbol, a message per change. Pure.

The newest status of a symbol describes it whole, so that whoever joins late needs no history: `kind` names the affected
kind (None: all, or more than one), `state` is the worst of them.
"""

from hub.keys import VENUE_WIDE
from hub.model import State, Status

__all__ = ["StatusBoard"]

_SEVERITY: dict[State, int] = {"live": 0, "stale": 1, "resyncing": 2, "down": 3}


class StatusBoard:
    """States of one venue. Methods return the message to publish, None when nothing changed."""

    def __init__(self, venue: str) -> None:
        self.venue = venue
        self._marks: dict[str, dict[tuple[str | None, str], tuple[State, str]]] = {}
        self._said: dict[str, tuple[State, str | None, str]] = {}
        self._since: dict[str, int] = {}

    def state(self, symbol: str = VENUE_WIDE) -> State:
        return self._said[symbol][0] if symbol in self._said else "live"

    def states(self) -> dict[str, State]:
        """Return what was last said, by symbol; `*` is the venue."""
        return {symbol: said[0] for symbol, said in self._said.items()}

    def mark(
        self, symbol: str, kind: str | None, state: State, reason: str, now: int, *, cause: str = ""
    ) -> Status | None:
        """Note that `kind` (None: all) of `symbol` is in `state`; `live` takes the note of the same cause back."""
        marks = self._marks.setdefault(symbol, {})
        if state != "live":
            marks[kind, cause] = (state, reason)
        elif marks.pop((kind, cause), None) is None and symbol in self._said:
            return None
        return self._say(symbol, self._summary(symbol, reason), now)

    def _summary(self, symbol: str, reason: str) -> tuple[State, str | None, str]:
        marks = self._marks[symbol]
        if not marks:
            return "live", None, reason
        state = max((state for state, _ in marks.values()), key=_SEVERITY.__getitem__)
        kinds = {kind for kind, _ in marks}
        reasons = "; ".join(dict.fromkeys(why for _, why in marks.values()))
        return state, kinds.pop() if len(kinds) == 1 else None, reasons

    def _say(self, symbol: str, said: tuple[State, str | None, str], now: int) -> Status | None:
        before = self._said.get(symbol)
        if before is not None and (before == said or before[0] == said[0] == "live"):
            return None
        if before is None or before[0] != said[0]:
            self._since[symbol] = now
        self._said[symbol] = said
        state, kind, reason = said
        return Status(self.venue, symbol, "", None, now, 0, state, kind, reason, self._since[symbol])

    def forget(self, symbol: str) -> None:
        """Know nothing of `symbol` any more."""
        for known in (self._marks, self._said, self._since):
            known.pop(symbol, None)

    def note(self, symbol: str, kind: str | None, reason: str, now: int) -> Status:
        """Announce a loss that changes no state: what follows is good again.

        It becomes the newest status, so where something is wrong at the moment it says that as well.
        """
        state, affected, was = self._said.get(symbol, ("live", None, ""))
        if state != "live":
            kind, reason = affected, f"{reason}; {was}"
        return Status(self.venue, symbol, "", None, now, 0, state, kind, reason, self._since.get(symbol, now))

    def again(self, now: int) -> list[Status]:
        """Return what was last said of each symbol, to be said once more."""
        return [
            Status(self.venue, symbol, "", None, now, 0, state, kind, reason, self._since[symbol])
            for symbol, (state, kind, reason) in self._said.items()
            if symbol != VENUE_WIDE
        ]
