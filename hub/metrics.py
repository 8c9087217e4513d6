"""A feed's figures as Prometheus text, read from its own report at the moment of a scrape."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hub.errors import ConfigError
from hub.venues import FeedReport

__all__ = ["FeedCollector", "serve_metrics"]


class FeedCollector(Collector):
    """Turns a FeedReport into metrics. Labels: venue, kind, event; all from closed sets."""

    def __init__(self, report: Callable[[], FeedReport]) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        report = self._report()
        events = CounterMetricFamily("tickwire_feed_events", "What happened in the feed.", labels=["venue", "event"])
        for event, count in sorted(report.counters.items()):
            events.add_metric([report.venue, event], count)
        yield events
        messages = CounterMetricFamily("tickwire_feed_messages", "Messages from the venue.", labels=["venue", "kind"])
        for kind, channel in sorted(report.kinds.items()):
            messages.add_metric([report.venue, kind], channel.messages)
        yield messages
        gauges = {
            "tickwire_feed_books_live": ("Books that are live.", report.books_live),
            "tickwire_feed_books_wanted": ("Books that should be live.", report.books_wanted),
            "tickwire_feed_connections": ("Open connections.", sum(c.connected for c in report.connections)),
        }
        for name, (text, value) in gauges.items():
            gauge = GaugeMetricFamily(name, text, labels=["venue"])
            gauge.add_metric([report.venue], value)
            yield gauge


def serve_metrics(report: Callable[[], FeedReport], host: str, port: int) -> None:
    """Serve `/metrics` from a thread of its own; ConfigError when the port is taken."""
    registry = CollectorRegistry()
    registry.register(FeedCollector(report))
    try:
        start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigError(f"metrics.port_base: cannot listen on {host}:{port}: {error}") from error
