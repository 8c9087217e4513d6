"""What a stream over the gateway knows of its replay: which channels are not live yet, and where to go on. Pure."""

from typing import Any

from hub.model import Message
from hub.position import format_position
from hub.replay import Since

__all__ = ["REPLAYING", "Replaying"]

#: Why a channel is not live while what is stored comes.
REPLAYING = "what is stored is being replayed"
#: After a break a replay goes on a little earlier than where it was: events of several channels that came at one time
#: may have been sent in another order. What comes again is known by its id.
OVERLAP_NS = 5_000_000_000
#: A number below this (ns) would be read as seconds.
LEAST_NS = 10**16


class Replaying:
    """`channels` are being replayed now. `over`: all that the replay is about is live."""

    def __init__(self, since: Since, speed: float) -> None:
        self.channels: set[str] = set()
        self.over = False
        self._since, self._speed = since, speed
        self._at = 0
        self._live: set[str] = set()

    def began(self, name: str) -> None:
        self.channels.add(name)

    def took(self, message: Message) -> None:
        """Note an event of a channel that is being replayed."""
        self._at = max(self._at, message.ts_recv if message.ts_event is None else message.ts_event)

    def ended(self, name: str) -> None:
        """The channel is live, or gone. Channels are acknowledged before the first of them goes live."""
        self.channels.discard(name)
        self._live.add(name)
        self.over = not self.channels

    def wants(self, name: str) -> bool:
        """Tell whether a channel that was asked for still is to be replayed."""
        return not self.over and name not in self._live

    def fields(self) -> dict[str, Any]:
        """Return what a subscribe says of where to begin."""
        if isinstance(self._since, int):
            at = max(self._since, self._at - OVERLAP_NS)
            place: str | float = at if at >= LEAST_NS else at / 1e9
        else:
            # One channel: a time is as good as the id once something came.
            place = self._at - OVERLAP_NS if self._at else format_position(self._since)
        return {"since": place, "speed": self._speed}
