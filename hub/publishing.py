"""What every process that publishes a venue does around its publisher: work while it lives, last words, metrics."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from hub.config import MetricsSettings
from hub.metrics import FeedCollector, PublisherCollector, serve_metrics
from hub.publisher import Publisher
from hub.venues import FeedReport

__all__ = ["publish_while", "serve_report"]

log = logging.getLogger(__name__)


async def publish_while(
    publisher: Publisher, *works: Coroutine[Any, Any, None], end: Callable[[], Awaitable[None]]
) -> None:
    """Run the publisher and `works` until cancelled; what fails in any of them is raised in an ExceptionGroup.

    The publisher outlives the rest: what `end` says, and waits for, still goes out, unless the publisher itself failed.
    """
    async with asyncio.TaskGroup() as group:
        publishing = group.create_task(publisher.run())
        try:
            async with asyncio.TaskGroup() as inner:
                for work in works:
                    inner.create_task(work)
                inner.create_task(_fails_with(publishing))
        finally:
            if not publishing.done():
                await end()
            publishing.cancel()


async def _fails_with(task: asyncio.Task[None]) -> None:
    """End the group when `task` fails, with its error."""
    await asyncio.wait({task})
    await task


def serve_report(settings: MetricsSettings, publisher: Publisher, report: Callable[[], FeedReport | None]) -> None:
    """Serve the process's `/metrics` where a port is set; `report` as FeedCollector wants it."""
    port = serve_metrics(settings, FeedCollector(report), PublisherCollector(publisher))
    if port:
        log.info("metrics venue=%s port=%d", publisher.venue, port)
