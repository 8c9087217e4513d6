"""Series in the TimeSeries module. Retention and aggregation are the server's work."""

from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from hub.history.series import Query, Sample, SeriesSpec
from hub.instruments import Instrument
from hub.keys import Channel, Keys
from hub.link import pack

__all__ = ["TimeSeries"]

CHUNK_BYTES = 1024


class TimeSeries:
    """Series in the TimeSeries module."""

    def __init__(self, client: Redis) -> None:
        self.client = client

    def create(self, keys: Keys, channel: Channel, specs: Iterable[SeriesSpec], row: Instrument | None) -> list[bytes]:
        labels: list[str] = ["kind", channel.kind, "venue", channel.venue, "symbol", channel.symbol]
        if row is not None:
            labels += ["base", row.base, "quote", row.quote]
        return [
            pack(
                "TS.CREATE", keys.series(channel.name, spec.field), "RETENTION", spec.retention_s * 1000,
                "CHUNK_SIZE", CHUNK_BYTES, "DUPLICATE_POLICY", spec.policy.upper(),
                "LABELS", *labels, "field", spec.field,
            )
            for spec in specs
        ]  # fmt: skip

    def add(self, samples: Sequence[Sample]) -> list[bytes]:
        args: list[str | int | float] = []
        commands: list[bytes] = []
        for sample in samples:
            if sample.value is None:
                commands.append(pack("TS.DEL", sample.key, sample.ts_ms, sample.ts_ms))
            else:
                args += (sample.key, sample.ts_ms, sample.value)
        return [pack("TS.MADD", *args), *commands] if args else commands

    def failed(self, samples: Sequence[Sample], replies: Sequence[Any]) -> list[tuple[Sample, str]]:
        written = [sample for sample in samples if sample.value is not None]
        taken = [sample for sample in samples if sample.value is None]
        answers: list[Any] = []
        if written:
            # One error for all, or an answer for each.
            answers += replies[0] if isinstance(replies[0], list) else [replies[0]] * len(written)
        answers += replies[1:] if written else replies
        return [
            (sample, str(answer))
            for sample, answer in zip((*written, *taken), answers, strict=True)
            if isinstance(answer, Exception) and (sample.value is not None or "does not exist" not in str(answer))
        ]

    def trim(self, key: str, spec: SeriesSpec, now_ms: int) -> list[bytes]:
        return []

    async def read(
        self, queries: Sequence[Query], start_ms: int, end_ms: int, limit: int
    ) -> list[list[tuple[int, float]]]:
        async with self.client.pipeline(transaction=len(queries) > 1) as pipe:
            for query in queries:
                words: list[str | int] = ["TS.RANGE", query.key, max(start_ms, 0), end_ms, "COUNT", limit]
                if query.bucket_ms:
                    words += ["AGGREGATION", query.aggregate, query.bucket_ms]
                pipe.execute_command(*words)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
        return [_points(reply) for reply in replies]


def _points(reply: Any) -> list[tuple[int, float]]:
    if isinstance(reply, ResponseError) and "does not exist" in str(reply):
        return []
    if isinstance(reply, Exception):
        raise reply
    return [(int(ts), float(value)) for ts, value in reply]
