"""Numbers of several gateway processes on one port: whichever is asked for /metrics answers for all.

Each process offers its own on a unix socket in a folder that they share; every sample of the answer carries the label
`worker`. What is one process's alone (`tickwire_gateway_worker_up`) is added by the one that was asked.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

__all__ = ["Siblings", "offer"]

#: A sibling that does not answer within this time counts as down.
ANSWER_S = 1.0
PARENT = "parent"

Family: TypeAlias = tuple[str, str, str, list[tuple[str, dict[str, str], float]]]
"""Name, help text, type, and samples (name, labels, value)."""

_decoder = msgspec.msgpack.Decoder(list[Family])


class _Merged(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)


class Siblings:
    """The processes of one gateway, seen from worker number `own` of `count`."""

    def __init__(self, folder: Path, own: int, count: int, registry: CollectorRegistry) -> None:
        self.folder, self.own, self.count, self.registry = folder, own, count, registry

    async def collect(self) -> bytes:
        """Return the numbers of all as Prometheus text."""
        others = [number for number in range(self.count) if number != self.own]
        parent, *answers = await asyncio.gather(
            _ask(_place(self.folder, PARENT)), *(_ask(_place(self.folder, str(number))) for number in others)
        )
        found: dict[int, list[Family]] = {self.own: _families(self.registry)}
        found.update({number: answer for number, answer in zip(others, answers, strict=True) if answer is not None})
        up = GaugeMetricFamily("tickwire_gateway_worker_up", "1 for a worker that answered", labels=["worker"])
        for number in range(self.count):
            up.add_metric([str(number)], int(number in found))
        merged: dict[str, Metric] = {up.name: up}
        for families, labels in ((parent or [], {}), *((found[n], {"worker": str(n)}) for n in sorted(found))):
            _merge(merged, families, labels)
        return generate_latest(_Merged(list(merged.values())))


def _merge(merged: dict[str, Metric], families: Iterable[Family], more: dict[str, str]) -> None:
    for name, text, kind, samples in families:
        metric = merged.setdefault(name, Metric(name, text, kind))
        for sample, labels, value in samples:
            metric.add_sample(sample, {**labels, **more}, value)


def _families(registry: Collector) -> list[Family]:
    return [
        (metric.name, metric.documentation, metric.type, [(s.name, dict(s.labels), s.value) for s in metric.samples])
        for metric in registry.collect()
    ]


def _place(folder: Path, name: str) -> Path:
    return folder / f"{name}.sock"


@asynccontextmanager
async def offer(folder: Path, name: str, registry: Collector) -> AsyncIterator[None]:
    """Give the numbers of `registry` to whoever connects, under the name of a worker (its number) or `parent`."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(msgspec.msgpack.encode(_families(registry)))
            with suppress(ConnectionError):
                await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_unix_server(answer, _place(folder, name))
    try:
        yield
    finally:
        server.close()


async def _ask(place: Path) -> list[Family] | None:
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(place)
            try:
                return _decoder.decode(await reader.read())
            finally:
                writer.close()
    except (OSError, TimeoutError, msgspec.DecodeError):
        return None
