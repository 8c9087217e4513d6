"""The client: one front for a gateway and for Redis."""

import os
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, TypeAlias

from hub.client.http import GatewayTransport
from hub.client.items import Token, Transport, Wanted
from hub.client.orderbook import OrderBooks
from hub.client.redis import RedisTransport
from hub.client.rows import BookSnapshot, CandleRow, QuoteRow, Rows, TickerRow, TradeRow, VenueRow
from hub.client.stream import Stream
from hub.directory import is_pattern
from hub.errors import ConfigError, RequestError
from hub.instruments import Instrument
from hub.keys import channel_name, parse_channel
from hub.model import EVENT_KINDS, is_event
from hub.position import Position, parse_position
from hub.replay import Since, parse_since

__all__ = ["Client", "Time"]

Time: TypeAlias = datetime | str | float | None
"""A moment: a datetime (without a zone: UTC), ISO 8601 text, or seconds since 1970."""

#: Channels of one replay, as the gateway has it.
REPLAYED_MAX = 1000
_GATEWAY = ("http", "https", "ws", "wss")
_REDIS = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")


class Client:
    """`async with Client("http://127.0.0.1:8000") as hub`, or `Client("redis://127.0.0.1:6379/0")`: the same methods.

    `token`: a JWT, or a function (async or not) that returns one and is called again when the gateway wants a newer
    one; default $TICKWIRE_TOKEN. `prefix`: of Redis keys. `timeout_s` bounds each read. `patience_s`: how long a stream
    tries to connect for the first time; once connected it comes back by itself, for ever. `tls`: for a gateway whose
    certificate no public authority signed.

    Raises GatewayUnreachable or RedisUnavailable where nobody answers, Refused where the token does not do,
    NotFound and RequestError for what does not exist or is not possible.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        token: Token = None,
        prefix: str = "md:",
        timeout_s: float = 10.0,
        patience_s: float = 10.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        scheme = url.partition("://")[0]
        self._transport: Transport
        if scheme in _GATEWAY and "://" in url:
            token = token if token is not None else os.environ.get("TICKWIRE_TOKEN") or None
            self._transport = GatewayTransport(url, token, timeout_s=timeout_s, patience_s=patience_s, tls=tls)
        elif scheme in _REDIS and "://" in url:
            self._transport = RedisTransport(url, prefix, timeout_s=timeout_s, patience_s=patience_s)
        else:
            raise ConfigError(f"{scheme + '://…' if '://' in url else url!r} is no address of a hub; allowed: "
                              f"{', '.join(name + '://' for name in _GATEWAY + _REDIS)}")  # fmt: skip
        self._streams: list[Stream] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all streams and connections."""
        for stream in self._streams:
            await stream.aclose()
        await self._transport.close()

    # streams

    def stream(
        self,
        *channels: str,
        after: Mapping[str, str] | str | None = None,
        max_rate: float | None = None,
        since: Time = None,
        speed: float | None = None,
    ) -> Stream:
        """Subscribe to channels and patterns: `quote:binance:BTC-USDT`, `trade:*:BTC-USDT`, `quote:kraken:*`.

        Per channel the newest message comes first, then what follows, without hole or repeat, over every reconnect.
        `after`: the events behind these ids instead, a map channel -> id, or one id for one channel. `max_rate`:
        messages per second and channel at most; only for kinds of which the newest is enough. Each stream has a
        connection of its own: put into one what belongs together.

        `since`: begin in the past, for kinds that have a log: a moment (a number: s, ms, µs or ns since 1970), or, for
        one channel, an id, that one included. Stored events of all channels come in the order of their times, at
        `speed` times the pace at which they happened (0 or none: as fast as they are read), then `Live` per channel,
        then the stream. Until then the channel's state is `stale`. A book begins with the newest snapshot before that
        place; where a log does not reach back there is a `Gap` first.
        """
        if not channels:
            raise RequestError("bad_channel", "a stream needs a channel, such as quote:*:BTC-USDT")
        for name in channels:
            channel = parse_channel(name, wildcards=True)
            if max_rate is not None and is_event(channel.kind):
                raise RequestError("bad_max_rate", f"max_rate is for kinds of which the newest is enough, not {name}")
        if max_rate is not None and not 0.01 <= max_rate <= 1000:
            raise RequestError("bad_max_rate", f"max_rate = {max_rate} is not possible; allowed: 0.01 to 1000")
        start = _since(channels, since, speed)
        if start is not None and after is not None:
            raise RequestError("bad_since", "since begins at a place, after behind one: one of them")
        wanted = Wanted(list(dict.fromkeys(channels)), _places(channels, after), max_rate, start, speed or 0.0)
        stream = Stream(lambda: self._transport.open_stream(wanted))
        self._streams.append(stream)
        return stream

    def order_books(self, symbol: str, venue: str = "*") -> OrderBooks:
        """Keep the full books of `symbol` at one venue or all of them, and iterate over their changes."""
        return OrderBooks(self.stream(channel_name("book", venue, symbol)))

    # reads

    async def quotes(self, *symbols: str, venue: str | None = None) -> Rows[QuoteRow]:
        """Return best bid and ask per symbol (default: all) and venue, the consolidated one (`all`) included."""
        return await self._transport.quotes(_symbols(symbols), venue)

    async def tickers(self, *symbols: str, venue: str | None = None) -> Rows[TickerRow]:
        """Return the rolling 24 hours per symbol (default: all) and venue."""
        return await self._transport.tickers(_symbols(symbols), venue)

    async def book(self, symbol: str, venue: str | None = None, *, depth: int = 100) -> Rows[BookSnapshot]:
        """Return the order book per venue, `depth` levels a side."""
        _within("depth", depth, 5000)
        return await self._transport.book(_symbol(symbol), venue, depth)

    async def trades(self, symbol: str, venue: str | None = None, *, limit: int = 100) -> Rows[TradeRow]:
        """Return the newest trades per venue, oldest first."""
        _within("limit", limit, 1000)
        return await self._transport.trades(_symbol(symbol), venue, limit)

    async def candles(
        self,
        symbol: str,
        venue: str | None = None,
        *,
        interval: str = "1m",
        start: Time = None,
        end: Time = None,
        limit: int = 500,
    ) -> Rows[CandleRow]:
        """Return closed candles per venue that begin in `start..end` (end excluded), in order: with `start` the first
        `limit`, else the last. `interval` is any multiple of a stored one: 10s, 1m, 45m, 7d."""
        _within("limit", limit, 100_000)
        start_ms, end_ms = _ms("start", start), _ms("end", end)
        if start_ms is not None and end_ms is not None and start_ms >= end_ms:
            raise RequestError("bad_parameter", "start is not before end")
        return await self._transport.candles(_symbol(symbol), venue, interval, start_ms, end_ms, limit)

    async def venues(self) -> Rows[VenueRow]:
        """Return all venues that ever published: state, connections, messages, books."""
        return await self._transport.venues()

    async def instruments(
        self, symbol: str | None = None, *, venue: str | None = None, text: str | None = None
    ) -> Rows[Instrument]:
        """Return what venues list: of one symbol, of one venue, or with `text` in symbol, name or venue's spelling."""
        return await self._transport.instruments(_symbol(symbol) if symbol is not None else None, venue, text)


def _symbol(symbol: str) -> str:
    return parse_channel(channel_name("quote", "all", symbol)).symbol


def _symbols(symbols: Sequence[str]) -> list[str]:
    return [_symbol(symbol) for symbol in symbols]


def _within(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise RequestError("bad_parameter", f"{name} = {value} is not possible; allowed: 1 to {most}")


def _since(channels: Sequence[str], since: Time, speed: float | None) -> Since | None:
    if speed is not None and (since is None or not 0 <= speed <= 1_000_000):
        raise RequestError("bad_speed", f"speed = {speed} is not possible; allowed: 0 to 1,000,000, with since")
    if since is None:
        return None
    place = parse_since(since.isoformat() if isinstance(since, datetime) else since)
    for name in channels:
        channel = parse_channel(name, wildcards=True)
        if not is_event(channel.kind):
            raise RequestError("bad_since", f"since is for kinds that have a log, not {name}", sorted(EVENT_KINDS))
        if not isinstance(place, int) and (len(channels) > 1 or is_pattern(channel)):
            raise RequestError("bad_since", "an id is a place in one channel; for several give a time")
    if len(channels) > REPLAYED_MAX:
        raise RequestError("bad_since", f"a replay may have {REPLAYED_MAX} channels")
    return place


def _places(channels: Sequence[str], after: Mapping[str, str] | str | None) -> dict[str, Position]:
    if isinstance(after, str):
        if len(channels) != 1:
            raise RequestError("bad_after", "one id is for one channel; use a map of channel to id")
        after = {channels[0]: after}
    places = {}
    for name, place in (after or {}).items():
        if name not in channels:
            raise RequestError("bad_after", f"after names {name}, which is not among the channels", channels)
        try:
            places[name] = parse_position(place)
        except ValueError as error:
            raise RequestError("bad_after", str(error)) from error
    return places


def _ms(name: str, value: Time) -> int | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return _ms(name, datetime.fromisoformat(value))
        except ValueError as error:
            detail = f"{name} = {value[:60]!r} is no time such as 2026-01-31T12:00:00Z"
            raise RequestError("bad_parameter", detail) from error
    if isinstance(value, datetime):
        return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() * 1000)
    return int(value * 1000)
