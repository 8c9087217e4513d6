"""The candles that were open when a feed ended, kept in Redis so that the next one goes on with them.

They are taken out when they are read: after a crash there is nothing old to mistake for the last state. Then the logs
say which candle was told last.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from feeds.open_candles import OpenCandles
from feeds.pipeline import Pipeline
from hub.keys import Keys, channel_name
from hub.model import Candle, decode

__all__ = ["CandleStore"]

log = logging.getLogger(__name__)

#: Older ones help nobody: more is missing than the venue is asked for.
TTL_S = 7 * 86_400
SAVE_TIMEOUT_S = 2.0
#: Entries of a log that are read to find its newest candle: the last ones may be revisions of older ones.
TAIL = 5
READ_AT_ONCE = 200

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(OpenCandles).decode


class CandleStore:
    """Open candles of one venue. Where Redis fails, that is logged and the candles begin anew."""

    def __init__(self, redis: Redis, keys: Keys, venue: str, intervals: Collection[str]) -> None:
        """`intervals`: those that the venue can be asked for; empty: it is not to be asked."""
        self.redis, self.keys, self.venue = redis, keys, venue
        self._intervals = sorted(intervals)
        self._taken = False

    async def keep(self, pipeline: Pipeline) -> None:
        """Store the open candles; every connection was stopped, and everything published."""
        if not self._taken:
            return  # those of the run before are still there
        try:
            async with asyncio.timeout(SAVE_TIMEOUT_S):
                await self._save(pipeline.candles_to_keep())
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("open candles not stored venue=%s error=%s", self.venue, error)

    async def _save(self, kept: Mapping[str, OpenCandles]) -> None:
        key = self.keys.open_candles(self.venue)
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.delete(key)
            if kept:
                pipe.hset(key, mapping={symbol: _encode(state) for symbol, state in kept.items()})
                pipe.expire(key, TTL_S)
            await pipe.execute()

    async def go_on(self, pipeline: Pipeline) -> None:
        """Go on with what the last run left; what neither it nor its logs have is asked of the venue."""
        try:
            kept = await self._take()
        except (RedisError, OSError) as error:
            log.warning("open candles not read venue=%s error=%s", self.venue, error)
            kept = {}
        symbols = [row.symbol for row in pipeline.instruments]
        gone_on = {symbol for symbol in symbols if symbol in kept and pipeline.go_on(symbol, kept[symbol])}
        told = await self.last_told([symbol for symbol in symbols if symbol not in gone_on])
        for symbol, starts in told.items():
            pipeline.ask_since(symbol, starts)
        log.info("candles venue=%s went_on=%d asked_since=%d", self.venue, len(gone_on), len(told))

    async def _take(self) -> dict[str, OpenCandles]:
        key = self.keys.open_candles(self.venue)
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(key)
            pipe.delete(key)
            stored, _ = await pipe.execute()
        self._taken = True
        found: dict[str, OpenCandles] = {}
        for symbol, payload in stored.items():
            try:
                found[symbol.decode()] = _decode(payload)
            except msgspec.DecodeError as error:  # of another version
                log.warning("open candles not read venue=%s symbol=%s error=%s", self.venue, symbol.decode(), error)
        return found

    async def last_told(self, symbols: Sequence[str]) -> dict[str, dict[str, int]]:
        """Return symbol -> interval -> start (int ns) of the newest candle in its log."""
        try:
            return await self._last_told(symbols)
        except (RedisError, OSError, msgspec.DecodeError) as error:
            log.warning("logs of candles not read venue=%s error=%s", self.venue, error)
            return {}

    async def _last_told(self, symbols: Sequence[str]) -> dict[str, dict[str, int]]:
        names = [(symbol, interval) for symbol in symbols for interval in self._intervals]
        found: dict[str, dict[str, int]] = {}
        for at in range(0, len(names), READ_AT_ONCE):
            part = names[at : at + READ_AT_ONCE]
            async with self.redis.pipeline(transaction=False) as pipe:
                for symbol, interval in part:
                    channel = channel_name(f"candle.{interval}", self.venue, symbol)
                    pipe.xrevrange(self.keys.log(channel), count=TAIL)
                replies: list[Any] = await pipe.execute()
            for (symbol, interval), entries in zip(part, replies, strict=True):
                messages = [decode(fields[b"payload"]) for _, fields in entries]
                starts = [message.start for message in messages if isinstance(message, Candle)]
                if starts:
                    found.setdefault(symbol, {})[interval] = max(starts)
        return found
