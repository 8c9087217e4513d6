"""Figures as Prometheus text. Hot paths only count; counts become metrics when somebody asks.

All labels come from closed sets: venues, kinds, names of events, states.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from hub.config import MetricsSettings
from hub.errors import ConfigError
from hub.latency import Buckets
from hub.venues import FeedReport

__all__ = ["FeedCollector", "PublisherCollector", "PublisherFigures", "histogram", "serve_metrics"]


#: Counters that are there before they count anything: a series that begins at 1 has not risen, and would alarm nobody.
ALWAYS = ("fetch_errors", "resyncs", "subscriptions_refused", "trades_lost", "wire_errors")


class FeedCollector(Collector):
    """Turns the newest FeedReport into metrics, none before the first. Labels: venue, kind, event.

    A scrape runs in another thread: `report` must return what is made already, not count what is changing.
    """

    def __init__(self, report: Callable[[], FeedReport | None]) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        report = self._report()
        if report is None:
            return
        events = CounterMetricFamily("tickwire_feed_events", "What happened in the feed.", labels=["venue", "event"])
        for event, count in sorted({**dict.fromkeys(ALWAYS, 0), **report.counters}.items()):
            events.add_metric([report.venue, event], count)
        yield events
        messages = CounterMetricFamily("tickwire_feed_messages", "Messages from the venue.", labels=["venue", "kind"])
        newest = GaugeMetricFamily(
            "tickwire_feed_last_message_timestamp_seconds", "When the newest came, unix time.", labels=["venue", "kind"]
        )
        for kind, channel in sorted(report.kinds.items()):
            messages.add_metric([report.venue, kind], channel.messages)
            newest.add_metric([report.venue, kind], channel.ts_recv / 1e9)
        yield messages
        yield newest
        yield _one(CounterMetricFamily, "tickwire_feed_received_bytes", "Bytes of frames.", report, report.bytes)
        gauges = {
            "books_live": ("Books that are live.", report.books_live),
            "books_wanted": ("Books that should be live.", report.books_wanted),
            "connections": ("Open connections.", sum(each.connected for each in report.connections)),
            "channels_requested": ("Channels asked of the venue.", sum(each.requested for each in report.connections)),
            "channels_with_data": ("Of those, with data.", sum(each.with_data for each in report.connections)),
            "rest_banned": ("1 while the venue takes no REST calls.", int(report.rest_banned_until is not None)),
        }
        for name, (text, value) in gauges.items():
            yield _one(GaugeMetricFamily, f"tickwire_feed_{name}", text, report, value)
        yield from _budget(report)


def _one(
    family: type[CounterMetricFamily] | type[GaugeMetricFamily], name: str, text: str, report: FeedReport, value: float
) -> Metric:
    metric = family(name, text, labels=["venue"])
    metric.add_metric([report.venue], value)
    return metric


def _budget(report: FeedReport) -> Iterator[Metric]:
    used = GaugeMetricFamily("tickwire_feed_rest_used_ratio", "Of a limit of REST calls.", labels=["venue", "window_s"])
    for limit in report.budget:
        if limit.used is not None:
            used.add_metric([report.venue, f"{limit.window_s:g}"], limit.used / limit.limit)
    yield used


class PublisherFigures(Protocol):
    """What a publisher tells about itself."""

    venue: str

    @property
    def waiting(self) -> int:
        """Messages that are not sent yet."""

    def histograms(self) -> Iterable[tuple[str, str, Buckets]]:
        """Name, help text and counts of each."""


class PublisherCollector(Collector):
    """How a publisher gets on with Redis: times, sizes of batches, what waits."""

    def __init__(self, publisher: PublisherFigures) -> None:
        self._publisher = publisher

    def collect(self) -> Iterator[Metric]:
        publisher = self._publisher
        waiting = GaugeMetricFamily("tickwire_publisher_queue", "Messages not sent yet.", labels=["venue"])
        waiting.add_metric([publisher.venue], publisher.waiting)
        yield waiting
        for name, text, buckets in publisher.histograms():
            yield histogram(f"tickwire_publisher_{name}", text, buckets, venue=publisher.venue)


def histogram(name: str, text: str, buckets: Buckets, **labels: str) -> Metric:
    """Return `buckets` as a metric."""
    metric = HistogramMetricFamily(name, text, labels=list(labels))
    metric.add_metric(list(labels.values()), list(buckets.cumulative()), buckets.sum)
    return metric


def serve_metrics(settings: MetricsSettings, *collectors: Collector) -> int:
    """Serve `/metrics` from a thread of its own, where a port is set; returns the port, 0 for none.

    ConfigError when the port is taken.
    """
    if not settings.port:
        return 0
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    try:
        start_http_server(settings.port, settings.host, registry)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise ConfigError(f"metrics.port: cannot listen on {where}: {error.strerror or error}") from error
    return settings.port
