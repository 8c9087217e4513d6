"""One symbol's candles in history, for whoever fills in what was before: which are stored, what a backfill has done."""

import time

import msgspec
from redis.asyncio import Redis

from hub.connect import AnyLink
from hub.history import History, Query, Sample, samples_of, series_of
from hub.instruments import Instrument
from hub.intervals import NS_PER_MS, interval_ns
from hub.keys import Channel, Keys
from hub.link import pack
from hub.model import Candle

__all__ = ["PastCandles"]

DONE_TTL_S = 7 * 86_400
#: How far back the last close may lie that empty candles repeat.
LOOK_BACK = 5000

_decode = msgspec.json.Decoder(list[tuple[int, int]]).decode


class PastCandles:
    """The series of `candle.<interval>` of one symbol. Methods raise RedisError, and ConnectionError of the link."""

    def __init__(
        self, redis: Redis, link: AnyLink, history: History, keys: Keys, instrument: Instrument, interval: str,
        retention_s: int,
    ) -> None:  # fmt: skip
        self._redis, self._link, self._history, self._keys = redis, link, history, keys
        self._instrument, self._length = instrument, interval_ns(interval)
        self._channel = Channel(f"candle.{interval}", instrument.venue, instrument.symbol)
        self._specs = series_of(self._channel.kind, 0, retention_s)
        self._names = [keys.series(self._channel.name, spec.field) for spec in self._specs]
        self._retention_s = retention_s
        self._note = keys.backfill(instrument.venue), f"{instrument.symbol} {interval}"
        self._made = False

    async def done(self) -> list[tuple[int, int]]:
        """Return the times (begin, end in ns) that were filled before."""
        stored = await self._redis.hget(*self._note)
        try:
            return _decode(stored) if stored else []
        except msgspec.DecodeError:
            return []  # of another version: what is stored is seen anyway

    async def starts(self, start: int, end: int) -> set[int]:
        """Return the starts (int ns) of the candles stored in `start..end`, the end excluded."""
        return set(await self._values("open", start, end, (end - start) // self._length))

    async def last_close(self, before: int) -> tuple[int, float] | None:
        """Return start and close of the last candle stored before `before` (int ns)."""
        closes = await self._values("close", before - LOOK_BACK * self._length, before, LOOK_BACK)
        return max(closes.items()) if closes else None

    async def _values(self, field: str, start: int, end: int, limit: int) -> dict[int, float]:
        key = self._keys.series(self._channel.name, field)
        first, last = start // NS_PER_MS, end // NS_PER_MS - 1
        (points,) = await self._history.read([Query(key, "last")], first, last, limit)
        return {ts * NS_PER_MS: value for ts, value in points}

    async def store(self, candles: list[Candle], done: list[tuple[int, int]]) -> dict[int, str]:
        """Store `candles` and note what is done, in this order; returns the starts that were refused and why."""
        now_ms = time.time_ns() // NS_PER_MS
        samples: list[Sample] = []
        refused: dict[int, str] = {}
        for candle in candles:
            own = samples_of(candle, self._names, self._specs, now_ms)
            # Nothing was there: nothing has to be taken away.
            samples += [sample for sample in own if sample.value is not None]
            if not own:
                refused[candle.start] = "older than history keeps"
        commands = [] if self._made else self._history.create(
            self._keys, self._channel, self._specs, self._instrument
        )  # fmt: skip
        made, added = len(commands), self._history.add(samples)
        commands += added
        ttl = max(DONE_TTL_S, self._retention_s)
        commands += [pack("EXPIRE", name, ttl) for name in self._names]
        key, field = self._note
        commands += [pack("HSET", key, field, msgspec.json.encode(done)), pack("EXPIRE", key, DONE_TTL_S)]
        replies = await self._link.call(commands)
        self._made = True
        for sample, reason in self._history.failed(samples, replies[made : made + len(added)]):
            refused[sample.ts_ms * NS_PER_MS] = reason
        return refused
