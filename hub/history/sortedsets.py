"""Series in sorted sets, for servers without the module: score ms, member `ms:unique:value`.

The writer trims; values of one millisecond are merged, and buckets made, on reading. Between the commands that replace
a value, and between the series of one channel, a reader may come: a page is not one moment.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from redis.asyncio import Redis

from hub.history.series import Aggregate, Policy, Query, Sample, SeriesSpec
from hub.instruments import Instrument
from hub.keys import Channel, Keys
from hub.link import pack

__all__ = ["SortedSets"]

#: Members read, and parsed without a break for other work of the event loop, at once.
PAGE = 2000


class SortedSets:
    """Series in sorted sets."""

    def __init__(self, client: Redis) -> None:
        self.client = client

    def create(self, keys: Keys, channel: Channel, specs: Iterable[SeriesSpec], row: Instrument | None) -> list[bytes]:
        return []

    def add(self, samples: Sequence[Sample]) -> list[bytes]:
        commands: list[bytes] = []
        for sample in samples:
            if not sample.unique:
                commands.append(pack("ZREMRANGEBYSCORE", sample.key, sample.ts_ms, sample.ts_ms))
            if sample.value is not None:
                member = f"{sample.ts_ms}:{sample.unique}:{float(sample.value)!r}"
                commands.append(pack("ZADD", sample.key, sample.ts_ms, member))
        return commands

    def failed(self, samples: Sequence[Sample], replies: Sequence[Any]) -> list[tuple[Sample, str]]:
        found: list[tuple[Sample, str]] = []
        answers = iter(replies)
        for sample in samples:
            own = [next(answers) for _ in range((not sample.unique) + (sample.value is not None))]
            error = next((answer for answer in own if isinstance(answer, Exception)), None)
            if error is not None:
                found.append((sample, str(error)))
        return found

    def trim(self, key: str, spec: SeriesSpec, now_ms: int) -> list[bytes]:
        return [pack("ZREMRANGEBYSCORE", key, "-inf", f"({now_ms - spec.retention_s * 1000}")]

    async def read(
        self, queries: Sequence[Query], start_ms: int, end_ms: int, limit: int
    ) -> list[list[tuple[int, float]]]:
        return [await self._read(query, max(start_ms, 0), end_ms, limit) for query in queries]

    async def _read(self, query: Query, start_ms: int, end_ms: int, limit: int) -> list[tuple[int, float]]:
        points: list[tuple[int, float]] = []
        bucket: list[float] = []
        begin = -1
        async for page in self._pages(query.key, query.policy, start_ms, end_ms):
            if not query.bucket_ms:
                points += page
                if len(points) >= limit:
                    return points[:limit]
                continue
            for ts, value in page:
                if ts - ts % query.bucket_ms != begin:
                    if bucket:
                        points.append((begin, _aggregated(query.aggregate, bucket)))
                    if len(points) == limit:
                        return points
                    begin, bucket = ts - ts % query.bucket_ms, []
                bucket.append(value)
        if bucket:
            points.append((begin, _aggregated(query.aggregate, bucket)))
        return points

    async def _pages(self, key: str, policy: Policy, start: int, end: int) -> AsyncIterator[list[tuple[int, float]]]:
        """Yield (ms, value), one per millisecond, a page at a time."""
        while start <= end:
            members: list[Any] = await self.client.zrange(key, start, end, byscore=True, offset=0, num=PAGE)
            rows = [_parsed(member) for member in members]
            if len(rows) < PAGE:
                yield _merged(rows, policy)
                return
            last = rows[-1][0]
            if rows[0][0] == last:  # a page of one millisecond, which may go on
                whole: list[Any] = await self.client.zrange(key, last, last, byscore=True)
                yield _merged([_parsed(member) for member in whole], policy)
                start = last + 1
            else:
                yield _merged([row for row in rows if row[0] < last], policy)
                start = last
            await asyncio.sleep(0)


def _parsed(member: bytes) -> tuple[int, int, int, float]:
    """Return ms, epoch, seq and value: members of one millisecond stand in the order of their text, not of time."""
    ts, unique, value = member.decode().split(":", 2)
    epoch, _, seq = unique.partition("-")
    return int(ts), int(epoch or 0), int(seq or 0), float(value)


def _merged(rows: Iterable[tuple[int, int, int, float]], policy: Policy) -> list[tuple[int, float]]:
    merged: dict[int, float] = {}
    for ts, _, _, value in sorted(rows):
        merged[ts] = merged.get(ts, 0.0) + value if policy == "sum" else value
    return list(merged.items())


def _aggregated(aggregate: Aggregate, values: list[float]) -> float:
    match aggregate:
        case "first":
            return values[0]
        case "last":
            return values[-1]
        case "min":
            return min(values)
        case "max":
            return max(values)
        case "count":
            return float(len(values))
    total = 0.0
    for value in values:  # as the module does; sum() rounds otherwise in later Pythons
        total += value
    return total / len(values) if aggregate == "avg" else total
