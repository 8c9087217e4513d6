"""One stream over the gateway's WebSocket: subscribes, resumes by id after every break, and hides no loss.

Nothing is buffered here: a frame is read when the consumer asks for the next item. While it does not, the socket is not
read, and the gateway's rules for slow readers apply (state kinds: the newest; books: a new snapshot; other events:
closed with 4008, and resumed by id when the consumer reads on).
"""

import asyncio
import logging
import ssl
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from hub.client.dialling import Dialler
from hub.client.items import Gap, Item, Live, Wanted
from hub.client.replaying import REPLAYING, Replaying
from hub.client.states import States
from hub.client.tokens import TokenKeeper
from hub.client.wire import Ack, CaughtUp, Closing, Error, Lagging, parse
from hub.directory import is_pattern
from hub.errors import GatewayUnreachable, Refused, RequestError
from hub.keys import parse_channel
from hub.model import Message, State, Status, is_event, kind_of
from hub.position import Position, follows, format_position, parse_position

__all__ = ["GatewayStream"]

logger = logging.getLogger(__name__)

#: A connection that is back within this time is no news.
GRACE_S = 1.0
#: The gateway pings three times a minute; after this silence it is asked whether it is there, and given so long.
QUIET_S, PONG_S = 30.0, 10.0
#: The gateway is asked about doubtful channels at most this often.
ASK_EVERY_S = 1.0
#: Names per request: with their ids they stay below gateway.max_frame_bytes.
CHUNK = 150

BEGINNING: Final = "0-0"
#: Errors that are no fault of the subscription: something follows, or nothing is lost.
_PASSING = frozenset({"too_many_messages", "token_expired", "token_revoked"})

_REFUSALS = {"unauthorized": 401, "forbidden": 403}


class GatewayStream:
    """An ItemSource. `reconnects` counts connections after the first, `lagged` times the gateway found it slow."""

    def __init__(
        self,
        url: str,
        tokens: TokenKeeper,
        wanted: Wanted,
        *,
        patience_s: float,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.reconnects = self.lagged = 0
        self._url = url
        self._dialler = Dialler(url, tokens, patience_s, tls)
        self._wanted, self._max_rate = wanted.channels, wanted.max_rate
        self._after = {name: format_position(place) for name, place in wanted.after.items()}
        self._replay = Replaying(wanted.since, wanted.speed) if wanted.since is not None else None
        self._last: dict[str, Position | None] = {}  # of the channels acknowledged so far
        self._states = States()
        self._socket: ClientConnection | None = None
        self._late: set[str] = set()  # announced while connected, nothing came yet
        self._time = asyncio.get_running_loop().time
        self._lost_at = self._asked_at = 0.0
        self._told_lost = self._closed = False

    def state(self, channel: str) -> tuple[State, str]:
        state, reason = self._states.state(channel)
        return ("stale", REPLAYING) if state == "live" and self._replayed(channel) else (state, reason)

    def _replayed(self, channel: str) -> bool:
        return self._replay is not None and channel in self._replay.channels

    async def close(self) -> None:
        self._closed = True
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()

    async def receive(self) -> list[Item]:
        while True:
            if self._closed:
                raise GatewayUnreachable(self._url, "the stream was closed")
            if self._socket is None:
                items = await self._reconnect()
            else:
                try:
                    items = self._take(await self._next_frame(self._socket))
                except ConnectionClosed as error:
                    self._lost(error)
                    items = []
            if items:
                return items

    async def _next_frame(self, socket: ClientConnection) -> bytes:
        while True:
            ask_in_s = self._asked_at + ASK_EVERY_S - self._time()
            if self._states.doubtful and ask_in_s <= 0:
                await self._ask(socket)
            try:
                async with asyncio.timeout(ask_in_s if self._states.doubtful and ask_in_s > 0 else QUIET_S):
                    return await socket.recv(decode=False)
            except TimeoutError:
                if not self._states.doubtful:
                    await self._probe(socket)

    async def _probe(self, socket: ClientConnection) -> None:
        """Find out whether a silent gateway is still there; ConnectionClosed where it is not."""
        try:
            async with asyncio.timeout(PONG_S):
                await (await socket.ping())
        except TimeoutError:
            socket.transport.abort()
            await socket.wait_closed()

    async def _ask(self, socket: ClientConnection) -> None:
        """Have doubtful channels acknowledged again: the answer says how they are."""
        self._asked_at = self._time()
        names = sorted(self._states.doubtful)
        self._states.doubtful.clear()
        events = [name for name in names if is_event(parse_channel(name).kind)]
        await self._send(socket, events, {}, None)
        await self._send(socket, [name for name in names if name not in events], {}, self._max_rate)

    # what the gateway says

    def _take(self, frame: bytes) -> list[Item]:
        try:
            said = parse(frame)
        except msgspec.DecodeError as error:
            raise GatewayUnreachable(self._url, f"a message that is none of a gateway's: {error}") from error
        match said:
            case Status():
                name = f"status:{said.venue}:{said.symbol}"
                if self._replayed(name):
                    return self._message(said)  # of the past
                self._states.status(said)
                if name in self._last and said.id != BEGINNING:
                    self._last[name] = max(self._last[name] or (0, 0), parse_position(said.id))
                return [said]
            case Message():
                return self._message(said)
            case Gap():
                if self._is_known(said):
                    return []
                self._last[said.channel] = None
                self._late.discard(said.channel)
                return [said]
            case Ack():
                return self._acknowledged(said)
            case CaughtUp():
                return self._caught_up(said)
            case Lagging():
                self.lagged += 1
                logger.warning("too slow action=%s channels=%d", said.action, len(said.channels))
            case Closing():
                for channel, position in said.last.items():
                    if self._last.get(channel) is None:
                        self._last[channel] = parse_position(position)
            case Error():
                self._complain(said)
        return []

    def _message(self, message: Message) -> list[Item]:
        kind = kind_of(message)
        name = f"{kind}:{message.venue}:{message.symbol}"
        position, last = parse_position(message.id), self._last.get(name)
        if self._replay is not None and name in self._replay.channels:
            self._replay.took(message)
        else:
            self._states.data(name)
        if last is not None and (position <= last if is_event(kind) else position == last):
            return []  # a repeat: the newest of a state channel comes again with each connection
        self._last[name] = position
        if not is_event(kind) or getattr(message, "action", "") == "snapshot":
            return [message]
        if last is None and name in self._late:
            self._late.discard(name)
            last = (position[0], 0)  # it was followed before its first message
        if last is None or follows(last, position):
            return [message]
        return [Gap(name, format_position(last) if last[1] else BEGINNING, message.id), message]

    def _is_known(self, gap: Gap) -> bool:
        """Tell whether what is missing came before the last break: a replay goes on a little earlier."""
        last = self._last.get(gap.channel)
        if last is None or gap.next is None or not self._replayed(gap.channel):
            return False
        return (following := parse_position(gap.next)) <= last or follows(last, following)

    def _caught_up(self, live: CaughtUp) -> list[Item]:
        assert self._replay is not None
        channel = parse_channel(live.channel)
        self._replay.ended(channel.name)
        items: list[Item] = [Live(channel.name, live.last)]
        if channel.kind == "status":
            self._states.doubt(channel)  # its statuses of the meantime came as those of the past
        news = self._states.acknowledged(channel, live.state, live.reason)
        return [*items, news] if news is not None else items

    def _acknowledged(self, ack: Ack) -> list[Item]:
        channel = parse_channel(ack.channel, wildcards=True)
        if ack.op == "unsubscribe":  # nobody publishes it any more
            self._last.pop(channel.name, None)
            if self._replayed(channel.name) and self._replay is not None:
                self._replay.ended(channel.name)
            return [*self._states.forget(channel, "nobody publishes it any more")]
        if is_pattern(channel) or ack.state is msgspec.UNSET:
            return []
        self._dialler.served()
        if ack.replaying and self._replay is not None:
            self._replay.began(channel.name)
        if channel.name not in self._last:
            self._last[channel.name] = None
            if ack.pattern and ack.id is None:
                self._late.add(channel.name)
        news = self._states.acknowledged(channel, ack.state, ack.reason)
        return [news] if news is not None else []

    def _complain(self, error: Error) -> None:
        if error.code in _PASSING:
            logger.warning("gateway error code=%s detail=%s", error.code, error.detail)
            return
        detail = f"{error.channel}: {error.detail}" if error.channel else error.detail
        if error.code in _REFUSALS:
            raise Refused(_REFUSALS[error.code], error.code, detail)
        raise RequestError(error.code, detail, error.allowed)

    # the connection

    async def _reconnect(self) -> list[Item]:
        """Try to connect once more. Returns what the consumer has to know: that nothing comes, once it is no blink."""
        untold = self._dialler.ever and not self._told_lost
        try:
            async with asyncio.timeout_at(self._lost_at + GRACE_S if untold else None):
                self._socket = await self._dialler.connect()
        except TimeoutError:
            self._told_lost = True
            return [*self._states.lost("the connection to the gateway is lost")]
        socket = self._socket
        if socket is not None:
            try:
                await self._subscribe(socket)
            except ConnectionClosed as error:
                self._lost(error)
            except BaseException:
                self._socket = None  # half subscribed: the next call begins anew
                socket.transport.abort()
                raise
        return []

    def _lost(self, error: ConnectionClosed) -> None:
        self._socket = None
        self._late.clear()
        self._lost_at = self._time()
        self._dialler.lost(error)

    async def _subscribe(self, socket: ClientConnection) -> None:
        """Subscribe to everything, behind what was received before."""
        again = self._dialler.ever
        self.reconnects += again
        plain = [name for name in self._wanted if not is_pattern(parse_channel(name, wildcards=True))]
        patterns = [name for name in self._wanted if name not in set(plain)]
        replay = self._replay if self._replay is not None and not self._replay.over else None
        past = [name for name in [*plain, *self._last] if replay is not None and replay.wants(name)]
        if not again:
            names, after = plain, dict(self._after)
        else:
            # Channels first and by name, each behind its last id; patterns then add those that are new since.
            names = list(dict.fromkeys([*plain, *self._last]))
            after = {name: place for name in names if (place := self._place(name)) is not None}
            after |= {name: BEGINNING for name in patterns if _counted(name)}
        names = [name for name in names if name not in set(past)]
        self._states.found()
        self._dialler.ever, self._told_lost = True, False
        rated = [name for name in names if not is_event(parse_channel(name).kind)] if self._max_rate else []
        await self._send(socket, [name for name in names if name not in set(rated)], after, None)
        await self._send(socket, rated, {}, self._max_rate)
        if replay is None:
            await self._send(socket, patterns, after, self._max_rate)
            return
        # In one request, because the gateway brings its events into one order.
        channels = list(dict.fromkeys([*past, *patterns]))
        request = {"op": "subscribe", "id": 1, "channels": channels, **replay.fields()}
        await socket.send(msgspec.json.encode(request), text=True)

    def _place(self, name: str) -> str | None:
        """Return the id behind which a channel goes on; None: with the newest."""
        last = self._last.get(name)
        if last is not None:
            return format_position(last) if is_event(parse_channel(name).kind) else None
        if name in self._after:
            return self._after[name]
        return BEGINNING if name in self._last and _counted(name) else None

    async def _send(
        self, socket: ClientConnection, names: Sequence[str], after: dict[str, str], max_rate: float | None
    ) -> None:
        for start in range(0, len(names), CHUNK):
            chunk = names[start : start + CHUNK]
            request: dict[str, Any] = {"op": "subscribe", "id": 1, "channels": chunk}
            places = {name: after[name] for name in chunk if name in after}
            if places:
                request["after"] = places
            if max_rate is not None:
                request["max_rate"] = max_rate
            await socket.send(msgspec.json.encode(request), text=True)


def _counted(name: str) -> bool:
    """Tell whether a channel or pattern is a sequence to read from its beginning: a book begins with a snapshot."""
    kind = name.partition(":")[0]
    return is_event(kind) and kind != "book"
