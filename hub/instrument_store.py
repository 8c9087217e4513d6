"""Instruments in Redis: one hash of rows per venue, how its last list was, and the changes that wait to be told.

Feeds and the `instruments` process write through this, so that a row is first and last seen the same way whoever saw
it. Telling the changes (`listing`) is the `instruments` process's alone: feeds/instruments.py.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, cast

import msgspec
from msgspec import Struct, structs
from redis.asyncio import Redis

from hub.instruments import Instrument
from hub.keys import Keys
from hub.listing import Change, Merged, merge
from hub.redisio import mget

__all__ = ["InstrumentStore", "Sync"]

#: Rows outlive the feed, so that readers can name what is down; a venue not run for a month goes.
TTL_S = 30 * 86_400
CHANGES_MAX = 20_000
TOLD_MAX = 500
_encode = msgspec.json.Encoder().encode


class Sync(Struct, frozen=True, kw_only=True):
    """How a venue's list was. `version` grows when rows change, `ts` is the last good list, `error` of one since.

    `intervals` are those of the venue's own candles.
    """

    version: int = 0
    ts: int | None = None
    count: int = 0
    intervals: list[str] = []
    error: str = ""
    error_ts: int | None = None


class InstrumentStore:
    """Rows of all venues. Methods raise redis.exceptions.RedisError."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self.client, self.keys = client, keys
        self._row = msgspec.json.Decoder(Instrument).decode
        self._sync = msgspec.json.Decoder(Sync).decode
        self._change = msgspec.json.Decoder(Change).decode

    async def venues(self) -> list[str]:
        """Return the venues that have rows or tried to, sorted."""
        members = await cast(Awaitable[Any], self.client.smembers(self.keys.listed_venues))
        return sorted(name.decode() for name in members)

    async def load(self, venue: str) -> dict[str, Instrument]:
        """Return all rows by symbol; one that cannot be read is left out."""
        stored = await cast(Awaitable[Any], self.client.hgetall(self.keys.instruments(venue)))
        rows: dict[str, Instrument] = {}
        for value in stored.values():
            try:
                row = self._row(value)
            except msgspec.DecodeError:
                continue
            rows[row.symbol] = row
        return rows

    async def syncs(self, venues: Sequence[str]) -> dict[str, Sync]:
        """Return how the last lists of `venues` were."""
        if not venues:
            return {}
        values = await mget(self.client, [self.keys.instruments_sync(venue) for venue in venues])
        return {venue: self._sync(value) for venue, value in zip(venues, values, strict=True) if value is not None}

    async def store(
        self,
        venue: str,
        rows: Iterable[Instrument],
        intervals: Iterable[str],
        now: int,
        expected: Callable[[Instrument], bool] | None = None,
    ) -> Merged:
        """Write what is different from before; returns what that was. See hub.listing.merge."""
        known = await self.load(venue)
        before = (await self.syncs([venue])).get(venue, Sync())
        merged = merge(known, rows, now, seen_before=before.ts, expected=expected)
        whole = expected is not None and not merged.doubt
        symbols = (known.keys() | {row.symbol for row in merged.rows}) - set(merged.forgotten)
        after = Sync(
            version=before.version + 1 if merged.rows or merged.forgotten else before.version,
            ts=now if whole else before.ts,
            count=len(symbols),
            intervals=list(intervals),
            error=merged.doubt or ("" if whole else before.error),
            error_ts=now if merged.doubt else None if whole else before.error_ts,
        )
        await self._write(venue, merged, after)
        return merged

    async def failed(self, venue: str, reason: str, now: int) -> None:
        """Note that the list could not be had; rows stay as they are."""
        before = (await self.syncs([venue])).get(venue, Sync())
        await self._write(venue, Merged([], [], [], ""), structs.replace(before, error=reason, error_ts=now))

    async def _write(self, venue: str, merged: Merged, sync: Sync) -> None:
        keys = self.keys
        rows, changes = keys.instruments(venue), keys.instruments_changes(venue)
        async with self.client.pipeline(transaction=True) as pipe:
            if merged.rows:
                pipe.hset(rows, mapping={row.symbol: _encode(row) for row in merged.rows})
            if merged.forgotten:
                pipe.hdel(rows, *merged.forgotten)
            for change in merged.changes:
                pipe.xadd(changes, {"change": _encode(change)}, maxlen=CHANGES_MAX, approximate=True)
            pipe.set(keys.instruments_sync(venue), _encode(sync), ex=TTL_S)
            pipe.expire(rows, TTL_S)
            pipe.expire(changes, TTL_S)
            await pipe.execute()
        await self.client.sadd(keys.listed_venues, venue)

    async def changes(self, venue: str) -> tuple[list[bytes], list[Change]]:
        """Return the oldest changes that nobody was told yet, and their ids."""
        entries: Any = await self.client.xrange(self.keys.instruments_changes(venue), count=TOLD_MAX)
        return [name for name, _ in entries], [self._change(fields[b"change"]) for _, fields in entries]

    async def told(self, venue: str, ids: Sequence[bytes]) -> None:
        """Take changes away that everybody was told."""
        if ids:
            await self.client.xdel(self.keys.instruments_changes(venue), *ids)
