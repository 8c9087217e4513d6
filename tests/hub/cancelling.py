"""Cancels a task in each of the turns of the event loop that a command to Redis takes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["ends"]

#: A command takes fewer turns of the event loop.
TURNS = 12


async def ends(
    begin: Callable[[], Awaitable[Any]], connected: Callable[[], Awaitable[Any]], turns_max: int = TURNS
) -> None:
    """Fail where a task that awaits `begin()`, and then would go on for ever, survives that it is cancelled."""

    async def again() -> None:
        await begin()
        await asyncio.Event().wait()

    for turns in range(1, turns_max):
        await connected()  # a command that is cancelled costs its connection
        task = asyncio.ensure_future(again())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=10)
        task.cancel()
        assert done, f"{begin} goes on, cancelled after {turns} turns of the loop"
        assert task.cancelled()
