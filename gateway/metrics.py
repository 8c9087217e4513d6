"""Numbers for Prometheus. The hot path only counts in ints; they become metrics when somebody asks.

Labels are paths of the route table, methods and status classes: nothing that a client can choose. Of several workers on
one port any answers for all, with the label `worker` (gateway/siblings.py).
"""

from collections import Counter
from collections.abc import Iterator
from typing import get_args

from litestar import Response, get
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.types import Message, Scope
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from gateway.runtime import Runtime
from gateway.siblings import Siblings
from hub.metrics import histogram
from hub.model import State as VenueState

__all__ = ["GatewayCollector", "RequestCounter", "make_registry", "metrics"]


class RequestCounter:
    """Counts HTTP answers by route, method and status class."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()

    async def before_send(self, message: Message, scope: Scope) -> None:
        if message["type"] == "http.response.start" and scope["type"] == ScopeType.HTTP:
            path = str(scope.get("path_template") or "other")
            self.counts[path, str(scope["method"]), f"{message['status'] // 100}xx"] += 1


class GatewayCollector(Collector):
    """Turns the counters of one runtime into metrics."""

    def __init__(self, runtime: Runtime, requests: RequestCounter) -> None:
        self._runtime, self._requests = runtime, requests

    def collect(self) -> Iterator[Metric]:
        runtime = self._runtime
        clients, bus, fanout = runtime.clients, runtime.bus, runtime.fanout
        yield _gauge("clients", "WebSocket clients connected", len(clients))
        yield _gauge("subscriptions", "Channels subscribed, summed over clients", runtime.subscriptions.count)
        yield _gauge("topics", "Channels subscribed in Redis", len(bus.topics))
        yield _gauge("channels", "Channels known", len(runtime.directory.names))
        yield _gauge("redis_connected", "1 while the bus is subscribed", int(bus.connected))
        yield _gauge("clients_held", "Clients that do not read at the moment", clients.held)
        yield _gauge("queue_bytes", "Events that wait for clients that do not read", clients.queued)
        yield _gauge("replays", "Subscriptions that are replaying what is stored", runtime.subscriptions.replays.count)
        yield _counter("clients_opened", "WebSocket clients that connected", clients.opened)
        yield _counter("client_messages", "Messages from clients", clients.received)
        yield _counter("client_errors", "Messages from clients that could not be understood", clients.errors)
        yield _counter("clients_slow_closed", "Clients closed because they did not read", clients.slow_closed)
        yield _counter("clients_idle_closed", "Clients closed because nothing was heard from them", clients.idle_closed)
        yield _counter("messages", "Messages from the bus that were fanned out", fanout.messages)
        yield _counter("writes", "Socket writes of the fan-out", fanout.writes)
        yield _counter("conflated", "Messages that a newer one replaced for a client", fanout.conflated)
        yield _counter("converted", "Messages made into msgpack or compressed", clients.encodings.made)
        yield _counter("refused", "Requests, connects and tokens that were refused", runtime.guard.refused)
        yield _counter("gaps", "Resumes that the log could not serve", runtime.joins.gaps)
        yield _counter("bus_repeats", "Messages dropped because they came before", bus.repeats)
        yield _counter("bus_holes", "Missing messages noticed", bus.holes)
        yield _counter("bus_malformed", "Messages without a readable id", bus.malformed)
        yield _counter("redis_reconnects", "Times the bus connected again", bus.reconnects)
        used, allowed = runtime.vitals.memory
        yield _gauge("redis_used_memory_bytes", "Memory that Redis uses", used)
        yield _gauge("redis_max_memory_bytes", "Memory that Redis may use; 0: no limit", allowed)
        yield histogram(
            "tickwire_gateway_redis_to_client_seconds",
            "From ts_pub until written to every client; sampled",
            fanout.stopwatch.times,
        )
        yield self._venues()
        answers = CounterMetricFamily(
            "tickwire_gateway_http_requests", "HTTP answers", labels=["path", "method", "status"]
        )
        for labels, count in self._requests.counts.items():
            answers.add_metric(labels, count)
        yield answers

    def _venues(self) -> Metric:
        states = GaugeMetricFamily(
            "tickwire_gateway_venue_state", "1 for the state that a venue is in", labels=["venue", "state"]
        )
        watch = self._runtime.watch
        for venue in sorted(watch.venues):
            now, _ = watch.venue_state(venue)
            for state in get_args(VenueState):
                states.add_metric([venue, state], int(state == now))
        return states


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"tickwire_gateway_{name}", text, value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"tickwire_gateway_{name}", text, value)


def make_registry(runtime: Runtime, requests: RequestCounter) -> CollectorRegistry:
    """Return a registry of one app's own, so that several apps can live in one process."""
    registry = CollectorRegistry()
    registry.register(GatewayCollector(runtime, requests))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


@get("/metrics", include_in_schema=False)
async def metrics(state: State) -> Response[bytes]:
    siblings: Siblings | None = state.get("siblings")
    text = generate_latest(state.registry) if siblings is None else await siblings.collect()
    return Response(text, media_type=CONTENT_TYPE_LATEST)
