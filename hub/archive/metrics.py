"""The archive's figures as Prometheus text."""

import time
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hub.archive.process import Archive

__all__ = ["ArchiveCollector"]


class ArchiveCollector(Collector):
    """Reads the figures at the moment of a scrape."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def collect(self) -> Iterator[Metric]:
        tails = list(self._archive.tails.values())
        counters = {
            "events": ("Events written to files.", sum(tail.written for tail in tails)),
            "gaps": ("Times events were gone before they were read.", sum(tail.gaps for tail in tails)),
            "unreadable": ("Events that could not be read.", sum(tail.unreadable for tail in tails)),
            "files_merged": ("Small files that went into bigger ones.", self._archive.files_merged),
        }
        for name, (text, count) in counters.items():
            yield CounterMetricFamily(f"tickwire_archive_{name}", text, count)
        oldest = min((tail.since for tail in tails if tail.rows), default=None)
        gauges: dict[str, tuple[str, float]] = {
            "channels": ("Channels that are archived.", len(tails)),
            "waiting_bytes": ("Bytes read and not in a file yet.", sum(tail.size for tail in tails)),
            "waiting_seconds": ("Age of the oldest of them.", 0.0 if oldest is None else time.monotonic() - oldest),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"tickwire_archive_{name}", text, value)
