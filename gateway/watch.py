"""How each venue is: pulses, statuses and the link to Redis, for acknowledgements, REST and all subscribers.

Statuses come over the bus like everything else. What nobody can publish, because the feed is dead or Redis is away,
the gateway says itself: a Status with id `0-0`, which stands in no log.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from gateway.channel import Channel
from gateway.frames import text_frame
from gateway.subscriber import Subscriber
from hub.bus import Bus
from hub.join import Joined
from hub.keys import VENUE_WIDE, channel_name
from hub.link import RedisReplyError, pack
from hub.model import State, Status, encode
from hub.venues import affects, state_of

if TYPE_CHECKING:
    from gateway.fanout import Fanout
    from gateway.subscriptions import Subscriptions

__all__ = ["NEVER_PUBLISHED", "VenueState", "Watch"]

logger = logging.getLogger(__name__)

POLL_S = 0.25
#: Redis that does not answer a poll for so long counts as away; after the second span the link is given up.
SILENT_S, DEAD_S = 1.5, 5.0
#: A connection that is back within this time is nobody's business.
GRACE_S = 1.0
#: Venues polled although Redis does not know them, because somebody subscribed to them.
STRANGERS_MAX = 1000

NEVER_PUBLISHED = "nothing was published here yet"
_RELATED = ("quote", "depth", "book")


class VenueState:
    """`alive` None: never seen. `told_down`: subscribers heard from the gateway that the venue is down."""

    __slots__ = ("alive", "status", "told_down")

    def __init__(self) -> None:
        self.alive: bool | None = None
        self.status: Status | None = None
        self.told_down = False


class Watch:
    """States of all venues and symbols, as this process knows them."""

    def __init__(self, bus: Bus[Channel], fanout: "Fanout", subscriptions: "Subscriptions") -> None:
        self.bus, self.fanout, self.subscriptions = bus, fanout, subscriptions
        self.venues: dict[str, VenueState] = {}
        self.symbols: dict[tuple[str, str], Status] = {}
        self.redis_reason = ""
        self._followed: dict[str, Channel] = {}
        self._decoder = msgspec.json.Decoder(Status)
        self._timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()

    # answers

    def state(self, kind: str, venue: str, symbol: str, present: bool) -> tuple[State, str]:
        """Return state and reason of the data of one channel; `present`: there is a value."""
        if self.redis_reason or not self.bus.connected:
            return "down", self.redis_reason or "Redis is not reachable"
        known = self.venues.get(venue)
        if known is None or (known.alive is None and known.status is None):
            return "down", NEVER_PUBLISHED
        status = self.symbols.get((venue, symbol))
        state, reason = state_of(kind, bool(known.alive), known.status, status, present=present)
        if state == "live" and not present:
            # Either nothing came yet, or it was withdrawn and the status that says why is on its way.
            key = self.bus.keys.newest(channel_name(kind, venue, symbol)).encode()
            topic = self.bus.topics.get(key)
            seen = topic is not None and topic.last is not None
            return ("resyncing", "there is no value at the moment") if seen else ("down", NEVER_PUBLISHED)
        return state, reason

    def venue_state(self, venue: str) -> tuple[State, str]:
        """Return state and reason of a venue as a whole."""
        if self.redis_reason or not self.bus.connected:
            return "down", self.redis_reason or "Redis is not reachable"
        known = self.venues.get(venue)
        if known is None:
            return "down", NEVER_PUBLISHED
        return state_of("", bool(known.alive), known.status, None)

    def kind_state(self, venue: str, kind: str) -> State:
        """Return the state of one kind of a venue: the venue's own, whatever single symbols are."""
        known = self.venues.get(venue)
        if known is None or self.redis_reason:
            return "down"
        return state_of(kind, bool(known.alive), known.status, None)[0]

    def affected(self, venue: str, kind: str) -> int:
        """Count the symbols of a venue whose status says that `kind` is not live."""
        return sum(
            1
            for (name, _), status in self.symbols.items()
            if name == venue and status.state != "live" and affects(status, kind)
        )

    # statuses from the bus

    def follow(self, name: str) -> None:
        """Subscribe, for good, to a status channel."""
        if name not in self._followed:
            channel = self._followed[name] = self.bus.acquire(name)
            self.bus.join(channel, partial(self._joined, channel))

    def unfollow(self, name: str) -> None:
        """A symbol's status channel is published no more."""
        channel = self._followed.get(name)
        if channel is not None and channel.symbol != VENUE_WIDE:
            del self._followed[name]
            self.symbols.pop((channel.venue, channel.symbol), None)
            self.bus.release(channel)

    def _joined(self, channel: Channel, joined: Joined) -> None:
        if not joined.payloads or joined.upto is None or (channel.last is not None and joined.upto <= channel.last):
            return
        # News to everybody: the channel may be so new that its first message was its announcement.
        channel.last, channel.newest = joined.upto, joined.payloads[-1]
        data = text_frame(joined.payloads[-1])
        for subscriber in {*self.status(channel, joined.payloads[-1])} - channel.everyone():
            self.fanout.send(subscriber, data, channel)

    def status(self, channel: Channel, payload: bytes) -> Iterable[Subscriber]:
        """Note a status; returns all subscribers it is about."""
        for about in self._about(channel.venue, channel.symbol):
            for group in about.groups:
                group.settle()  # what came before the status is sent before it
        self._note(channel, payload)
        return self._audience(channel.venue, channel.symbol)

    def _note(self, channel: Channel, payload: bytes) -> None:
        try:
            status = self._decoder.decode(payload)
        except msgspec.DecodeError as error:
            logger.warning("unreadable status channel=%s error=%s", channel.name, error)
            return
        if channel.symbol == VENUE_WIDE:
            self.venues.setdefault(channel.venue, VenueState()).status = status
        else:
            self.symbols[channel.venue, channel.symbol] = status
            if status.state != "live":
                # The feed withdrew what depends on the book; what is remembered here must not outlive it.
                for kind in _RELATED:
                    key = self.bus.keys.newest(channel_name(kind, channel.venue, channel.symbol)).encode()
                    related = self.bus.topics.get(key)
                    if related is not None:
                        related.newest = None

    def _about(self, venue: str, symbol: str) -> Iterable[Channel]:
        if symbol == VENUE_WIDE:
            return self.subscriptions.by_venue.get(venue, {})
        return self.subscriptions.by_symbol.get((venue, symbol), {})

    def _audience(self, venue: str, symbol: str) -> set[Subscriber]:
        return {subscriber for channel in self._about(venue, symbol) for subscriber in channel.everyone()}

    # pulses

    async def start(self) -> None:
        """Learn venues and pulses; the bus is connected."""
        await self._poll()

    async def run(self) -> None:
        """Poll pulses and known venues until cancelled."""
        while True:
            self._wake.clear()
            if self.bus.connected:
                await self._poll_in_time()
            try:
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def wake(self) -> None:
        """Poll now: something new is there."""
        self._wake.set()

    async def _poll_in_time(self) -> None:
        poll = asyncio.ensure_future(self._poll())
        try:
            done, _ = await asyncio.wait([poll], timeout=SILENT_S)
            if not done:
                self._away("Redis does not answer")
                done, _ = await asyncio.wait([poll], timeout=DEAD_S)
            if not done:
                self.bus.drop("no answer to polls")
                return
            error = poll.exception()
            if error is None:
                self._back()
            elif not isinstance(error, ConnectionError):
                raise error
        finally:
            poll.cancel()

    async def _poll(self) -> None:
        # PING asks every node where there are several.
        count, members, _ = await self.bus.call(
            pack("SCARD", self.bus.keys.channels), pack("SMEMBERS", self.bus.keys.venues), pack("PING")
        )
        if isinstance(count, int) and count != self.subscriptions.directory.count:
            # Only additions are announced: where the numbers differ, a channel was retired.
            await self.bus.learn_channels()
        known = [] if isinstance(members, RedisReplyError) else [name.decode(errors="replace") for name in members]
        for venue in known:
            self.follow(channel_name("status", venue, VENUE_WIDE))
        strangers = [venue for venue in self.subscriptions.by_venue if venue not in self.venues][:STRANGERS_MAX]
        venues = list({*known, *self.venues, *strangers})
        if not venues:
            return
        (pulses,) = await self.bus.call(pack("MGET", *(self.bus.keys.alive(venue) for venue in venues)))
        if isinstance(pulses, RedisReplyError):
            raise ConnectionError(str(pulses))
        for venue, pulse in zip(venues, pulses, strict=True):
            if pulse is not None or venue in self.venues or venue in known:
                state = self.venues.setdefault(venue, VenueState())
                if state.alive is None and pulse is None:
                    state.told_down = True  # nobody was told anything else
                state.alive = pulse is not None
        for venue in self.venues:
            self._tell(venue)

    # the link

    def disconnected(self, reason: str) -> None:
        """The link broke: unless it is back soon, everybody is told."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GRACE_S, self._away, reason)

    def connected(self) -> None:
        """The link is back; pulses decide what is true again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.wake()

    def _away(self, reason: str) -> None:
        self._timer = None
        self.redis_reason = reason
        for venue in {*self.venues, *self.subscriptions.by_venue}:
            self._tell(venue)

    def _back(self) -> None:
        if self.redis_reason:
            self.redis_reason = ""
            for venue in {*self.venues, *self.subscriptions.by_venue}:
                self._tell(venue)

    def _tell(self, venue: str) -> None:
        """Tell the venue's subscribers where the truth changed since they were last told."""
        state = self.venues.get(venue)
        # A venue Redis does not know leaves no state here: clients choose such names freely.
        alive, told_down = (bool(state.alive), state.told_down) if state is not None else (False, not self.redis_reason)
        down = bool(self.redis_reason) or not alive
        if down == told_down:
            return
        if state is not None:
            state.told_down = down
        reason = self.redis_reason or "the feed has no pulse"
        if down:
            self._send(venue, encode(_made_here(venue, "down", reason)))
            logger.warning("venue down venue=%s reason=%s", venue, reason)
            return
        logger.info("venue back venue=%s", venue)
        newest = self._followed.get(channel_name("status", venue, VENUE_WIDE))
        if newest is not None and newest.newest is not None:
            self._send(venue, newest.newest)
        else:
            self._send(venue, encode(_made_here(venue, "live", "the feed's pulse is back")))

    def _send(self, venue: str, payload: bytes) -> None:
        data = text_frame(payload)
        channel = self._followed.get(channel_name("status", venue, VENUE_WIDE))
        own = channel.everyone() if channel is not None else set()
        for subscriber in {*self._audience(venue, VENUE_WIDE), *own}:
            self.fanout.send(subscriber, data, channel)


def _made_here(venue: str, state: State, reason: str) -> Status:
    now = time.time_ns()
    return Status(
        venue=venue, symbol=VENUE_WIDE, id="0-0", ts_event=None, ts_recv=now, ts_pub=now,
        state=state, kind=None, reason=reason, since=now,
    )  # fmt: skip
