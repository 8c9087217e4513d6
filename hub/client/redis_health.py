"""How good the channels of a stream straight from Redis are: pulses, statuses, and the link itself.

The rules for readers (docs/redis.md): a missing pulse makes a venue `down`, else its status counts, else the symbol's.
"""

import asyncio
import logging
from collections.abc import Callable, Set

import msgspec

from hub.bus import Bus
from hub.client.items import Item
from hub.client.states import made_here
from hub.keys import VENUE_WIDE, Channel, Keys, channel_name, parse_channel
from hub.link import RedisReplyError, pack
from hub.model import State, Status
from hub.position import Position
from hub.topic import Topic
from hub.venues import state_of

__all__ = ["Health", "Reading"]

logger = logging.getLogger(__name__)

PULSE_EVERY_S = 0.5
#: Redis that does not answer about pulses for so long is given up, and connected to again.
SILENT_S = 5.0
NEVER_PUBLISHED = "nothing was published here yet"


class Reading(Topic):
    """A channel of this stream. `queued`: position of what was queued last; `read`: joined, else its messages wait in
    Redis. `unbased`: a book before its first snapshot. `told`: state the consumer knows of. `replaying`: events of the
    past come first."""

    __slots__ = ("channel", "data", "due", "held", "queued", "read", "replaying", "seen", "told", "unbased")

    def __init__(self, name: str, keys: Keys) -> None:
        super().__init__(name, keys)
        self.channel = parse_channel(name)
        self.queued: Position | None = None
        self.read = self.data = self.unbased = self.seen = self.replaying = False
        self.told: State = "live"
        self.due = 0.0
        self.held: bytes | None = None


class Health:
    """Judges `readings`; `emit` takes what the consumer should know. `lost`: why there is no link, empty: there is."""

    def __init__(self, bus: Bus[Reading], readings: dict[str, Reading], emit: Callable[[Item], None]) -> None:
        self.readings, self.lost = readings, ""
        self._bus, self._emit = bus, emit
        self._statuses: dict[str, Status] = {}
        self._pulses: dict[str, bool] = {}

    def note(self, payload: bytes, topic: Reading | None = None) -> None:
        """Note a status. One that is news (`topic`) is an item of the stream where it affects a channel of it."""
        try:
            status = msgspec.json.decode(payload, type=Status)
        except msgspec.DecodeError as error:
            logger.warning("unreadable status error=%s", error)
            return
        self._statuses[channel_name("status", status.venue, status.symbol)] = status
        about = [r for r in self.readings.values() if r.venue == status.venue and _covers(status, r.channel)]
        if status.state != "live":
            for reading in about:
                if reading.kind in {"quote", "depth", "book"} and status.symbol != VENUE_WIDE:
                    reading.seen = False  # withdrawn with its book, until something comes again
        if topic is None:
            return
        for reading in about:
            reading.told = self.state(reading)[0]
        if about and not topic.data:
            self._emit(status)

    def state(self, reading: Reading) -> tuple[State, str]:
        """Return state and reason of a channel's data, by the rules for readers."""
        if self.lost:
            return "down", self.lost
        channel = reading.channel
        wide = self._statuses.get(channel_name("status", channel.venue, VENUE_WIDE))
        own = self._statuses.get(channel_name("status", channel.venue, channel.symbol))
        alive = self._pulses.get(channel.venue, True)  # of a venue that is new it is its first sign of life
        state, reason = state_of(
            channel.kind, alive, wide, None if channel.symbol == VENUE_WIDE else own, present=reading.seen
        )
        if state == "live" and not reading.seen:
            return ("resyncing", "there is no value at the moment") if reading.last else ("down", NEVER_PUBLISHED)
        return state, reason

    def tell(self, reading: Reading) -> None:
        """Emit a status where a channel's state is not what the consumer knows."""
        state, reason = self.state(reading)
        if state != reading.told:
            reading.told = state
            self._emit(made_here(reading.channel, state, reason))

    def tell_all(self) -> None:
        for reading in self.readings.values():
            if self.lost or reading.read:
                self.tell(reading)

    async def watch(self) -> None:
        """Look at all pulses again and again."""
        while True:
            if self._bus.connected:
                await self.look({reading.venue for reading in self.readings.values()})
            await asyncio.sleep(PULSE_EVERY_S)

    async def look(self, names: Set[str]) -> None:
        """Look at the pulses of venues, and tell what follows from them."""
        venues = sorted(names)
        try:
            async with asyncio.timeout(SILENT_S):
                pulses = await self._bus.call(
                    *(pack("EXISTS", self._bus.keys.alive(venue)) for venue in venues), pack("PING")
                )
        except ConnectionError:
            return
        except TimeoutError:
            self._bus.drop("no answer about pulses")
            return
        for venue, pulse in zip(venues, pulses[:-1], strict=True):
            self._pulses[venue] = not isinstance(pulse, RedisReplyError) and bool(pulse)
        self.tell_all()


def _covers(status: Status, channel: Channel) -> bool:
    return status.symbol in (VENUE_WIDE, channel.symbol)
