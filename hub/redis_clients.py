"""The clients of redis-py that the hub uses: no cancellation is lost in them, and all their errors are RedisErrors.

redis-py sends within asyncio.wait_for, which before Python 3.12 returns the result instead where a cancellation comes
together with it: whoever commands Redis in a loop would go on for ever. So a task that was cancelled during a command
ends with it; what it commands afterwards, to clean up, is executed. Not covered are pub/sub, which the hub has a bus
for, and what a WATCHing pipeline of a Cluster reads.
"""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.cluster import ClusterPipeline, RedisCluster
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException

__all__ = ["ClusterClient", "MasterClient", "SingleClient", "uncancelled"]

T = TypeVar("T")


async def uncancelled(command: Awaitable[T]) -> T:
    """Return what `command` does; CancelledError where this task was cancelled meanwhile, whatever became of it."""
    # Compared, because a count of 0 is no rule: a task that cleans up was cancelled before, and before Python 3.13 so
    # was one whose TaskGroup failed.
    before = _cancellations()
    try:
        result = await command
    except Exception as error:
        if _cancellations() > before:
            raise asyncio.CancelledError from error
        raise
    if _cancellations() > before:
        raise asyncio.CancelledError
    return result


def _cancellations() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


class SingleClient(Redis):
    """A client of one server."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        return await uncancelled(super().execute_command(*args, **options))  # type: ignore[no-untyped-call]  # as redis-py has it

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        return _SinglePipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _SinglePipeline(Pipeline):
    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        return await uncancelled(super().execute(raise_on_error))

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        return await uncancelled(super().immediate_execute_command(*args, **options))  # type: ignore[no-untyped-call]  # as redis-py has it

    async def reset(self) -> None:  # type: ignore[override]  # RESET, the command, is no part of pipelines
        await uncancelled(super().reset())  # type: ignore[no-untyped-call]  # as redis-py has it


class MasterClient(SingleClient):
    """A client that finds its master by Sentinels, and closes the connections to them too."""

    sentinels: Sentinel

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        await self.sentinels.aclose()


class ClusterClient(RedisCluster):
    """A client of all nodes of a Cluster."""

    async def initialize(self, *args: Any, **options: Any) -> "RedisCluster":
        with _redis_errors():
            return await uncancelled(super().initialize(*args, **options))

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        with _redis_errors():
            return await uncancelled(super().execute_command(*args, **options))

    def pipeline(self, transaction: Any | None = None, shard_hint: Any | None = None) -> ClusterPipeline:
        return _ClusterPipeline(self, transaction)  # type: ignore[abstract]  # redis-py's own is as abstract


class _ClusterPipeline(ClusterPipeline):
    async def execute(self, raise_on_error: bool = True, allow_redirections: bool = True) -> list[Any]:
        return await uncancelled(super().execute(raise_on_error, allow_redirections))


@contextmanager
def _redis_errors() -> Iterator[None]:
    """A Cluster that cannot serve raises RedisClusterException, which is no RedisError."""
    try:
        yield
    except RedisClusterException as error:
        raise RedisConnectionError(str(error)) from error
