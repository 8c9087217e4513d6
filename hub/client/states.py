"""How good each channel's data is, as a client of the gateway knows it. Pure.

An acknowledgement says all there is to know at its moment; statuses that come after it change that. What an
acknowledgement said cannot be taken apart (a venue's trouble, or the symbol's), so it holds until the gateway is asked
again: that is when something happens in a channel that was not live.
"""

import time
from collections.abc import Iterator

from hub.client.items import NOT_SUBSCRIBED
from hub.keys import VENUE_WIDE, Channel
from hub.model import State, Status
from hub.venues import state_of

__all__ = ["States", "made_here"]


class _Known:
    """One channel since its last acknowledgement."""

    __slots__ = ("acked", "channel", "symbol", "venue")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.acked: tuple[State, str] = ("live", "")
        self.venue: Status | None = None
        self.symbol: Status | None = None

    def state(self) -> tuple[State, str]:
        if self.acked[0] != "live":
            return self.acked
        return state_of(self.channel.kind, True, self.venue, self.symbol)


class States:
    """States of the channels of one stream."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._by_venue: dict[str, list[_Known]] = {}
        self._lost = ""
        #: channels of which the gateway should be asked again
        self.doubtful: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def state(self, name: str) -> tuple[State, str]:
        """Return state and reason; `down` for what is not subscribed."""
        known = self._known.get(name)
        if known is None:
            return "down", self._lost or NOT_SUBSCRIBED
        return ("down", self._lost) if self._lost else known.state()

    def acknowledged(self, channel: Channel, state: State, reason: str) -> Status | None:
        """Note an acknowledgement; returns the status to tell where that is news (live is what one expects)."""
        name = channel.name
        known = self._known.get(name)
        before = self.state(name)[0] if known is not None else "live"
        if known is None:
            known = self._known[name] = _Known(channel)
            self._by_venue.setdefault(channel.venue, []).append(known)
        known.acked, known.venue, known.symbol = (state, reason), None, None
        self.doubtful.discard(name)
        return made_here(channel, state, reason) if state != before else None

    def forget(self, channel: Channel, reason: str) -> list[Status]:
        """The channel is gone; returns what to tell."""
        known = self._known.pop(channel.name, None)
        self.doubtful.discard(channel.name)
        if known is None:
            return []
        self._by_venue[channel.venue].remove(known)
        return [made_here(channel, "down", reason)]

    def status(self, status: Status) -> None:
        """Note a status that the hub sent."""
        for known in self._by_venue.get(status.venue, ()):
            if status.symbol == VENUE_WIDE:
                known.venue = status
            elif status.symbol == known.channel.symbol:
                known.symbol = status
            else:
                continue
            # A book in trouble may have taken the quote with it: only the gateway knows where quotes come from.
            if known.acked[0] != "live" or (known.channel.kind == "quote" and status.kind == "book"):
                self.doubtful.add(known.channel.name)

    def doubt(self, about: Channel) -> None:
        """Have the gateway asked again about all channels that the statuses of channel `about` are about."""
        for known in self._by_venue.get(about.venue, ()):
            if about.symbol in (VENUE_WIDE, known.channel.symbol):
                self.doubtful.add(known.channel.name)

    def data(self, name: str) -> None:
        """Note that something came in a channel."""
        known = self._known.get(name)
        if known is not None and known.acked[0] != "live":
            self.doubtful.add(name)

    def lost(self, reason: str) -> list[Status]:
        """The connection is gone; returns what to tell, a status per channel."""
        self._lost = reason
        self.doubtful.clear()
        return [made_here(known.channel, "down", reason) for known in self._known.values()]

    def found(self) -> None:
        """There is a connection again. Channels stay down until they are acknowledged."""
        if self._lost:
            for known in self._known.values():
                known.acked = ("down", self._lost)
        self._lost = ""


def made_here(channel: Channel, state: State, reason: str) -> Status:
    """Return a status of one channel that stands in no log (id 0-0)."""
    now = time.time_ns()
    return Status(
        venue=channel.venue, symbol=channel.symbol, id="0-0", ts_event=None, ts_recv=now, ts_pub=now,
        state=state, kind=channel.kind, reason=reason, since=now,
    )  # fmt: skip
