"""What every long-running process shares: signals, exit codes, and dying with the process that started it.

| exit code | meaning |
|---|---|
| 0 | ended as asked |
| 1 | a bug, or an error that has no code of its own |
| 2 | ConfigError, UnknownInstrument: a setting has to change |
| 3 | RedisUnavailable |
| 4 | LeaseHeld: another publisher owns the venue |
| 5 | LeaseLost |
| 6 | SessionError: a recorded session cannot be read |
| 7 | GatewayUnreachable |
| 8 | RequestError: what was asked for is not there, not possible or not allowed |
| 9 | FetchError, WireError: the venue does not answer, or not what was asked for |
"""

import asyncio
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, NoReturn

from hub import config, log
from hub.config import Settings
from hub.errors import (
    ConfigError,
    FetchError,
    GatewayUnreachable,
    HubError,
    LeaseHeld,
    LeaseLost,
    RedisUnavailable,
    RequestError,
    SessionError,
    UnknownInstrument,
    WireError,
)

__all__ = ["EXIT_CODES", "SUPERVISED", "die_with_parent", "exit_code", "load_or_exit", "run"]

logger = logging.getLogger(__name__)

#: Environment variable by which a supervisor names its own process id.
SUPERVISED: Final = "TICKWIRE_SUPERVISED"

EXIT_CODES: Final[dict[type[HubError], int]] = {
    ConfigError: 2,
    UnknownInstrument: 2,
    RedisUnavailable: 3,
    LeaseHeld: 4,
    LeaseLost: 5,
    SessionError: 6,
    GatewayUnreachable: 7,
    RequestError: 8,
    FetchError: 9,
    WireError: 9,
}

PARENT_POLL_S: Final = 0.5
#: How long a process whose supervisor died may take to clean up; nobody else would end one that hangs.
ORPHAN_LIMIT_S = 5.0
_PR_SET_PDEATHSIG: Final = 1
# Loaded at import: between fork and exec, where die_with_parent also runs, nothing may be loaded any more.
_libc: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def exit_code(error: BaseException) -> int:
    """Return the process exit code for `error`; the first HubError inside a group counts."""
    known = _hub_error(error)
    return next((code for kind, code in EXIT_CODES.items() if isinstance(known, kind)), 1)


def _hub_error(error: BaseException) -> HubError | None:
    """Return the HubError to report; None when `error` is, or a group holds, anything else, because that is a bug."""
    if isinstance(error, BaseExceptionGroup):
        found = [_hub_error(inner) for inner in error.exceptions]
        return None if None in found else found[0]
    return error if isinstance(error, HubError) else None


def load_or_exit(path: str | Path | None = None) -> Settings:
    """Read the settings for a `__main__` module; a ConfigError ends the process with its message and exit code."""
    try:
        return config.load(path)
    except HubError as error:
        sys.stderr.write(f"tickwire: {error}\n")
        sys.exit(exit_code(error))


def die_with_parent(parent: int, signum: int = signal.SIGTERM) -> None:
    """Have the kernel send `signum` to this process when process `parent` ends, by SIGKILL too. Linux only.

    May be called between fork and exec. The setting survives exec, and ends nothing when `parent` is gone already:
    then this process ends at once.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def run(main: Callable[[], Coroutine[Any, Any, int | None]], name: str, settings: Settings) -> NoReturn:
    """Run `main()` as this process's work and exit with its result, or the code of its error (table above).

    SIGTERM and SIGINT cancel it; it ends by cleaning up. Under a supervisor it is also cancelled when that one dies.
    """
    log.setup(settings.log, name)
    _end_with_supervisor()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            code = runner.run(_until_signal(main))
    except (HubError, BaseExceptionGroup) as error:
        known = _hub_error(error)
        if known is None:
            raise
        logger.error("%s", known)
        code = exit_code(known)
    sys.exit(code)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _end_with_supervisor() -> None:
    """Have this process end with the one that started it, where that asked for it by SUPERVISED."""
    text = os.environ.get(SUPERVISED, "")
    if not text:
        return
    parent = int(text) if text.isdigit() and int(text) > 1 else os.getppid()
    die_with_parent(parent)
    # The kernel's signal exists on Linux alone; a thread works everywhere, and while the event loop hangs, too.
    threading.Thread(target=_watch_parent, args=(parent,), name="supervisor watch", daemon=True).start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_LIMIT_S)
    os._exit(1)


async def _until_signal(main: Callable[[], Coroutine[Any, Any, int | None]]) -> int:
    loop = asyncio.get_running_loop()
    work = loop.create_task(main())
    stopping = False

    def stop(signum: signal.Signals) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            logger.info("stopping signal=%s", signum.name)
            work.cancel()

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop, signum)
    try:
        return await work or 0
    except asyncio.CancelledError:
        if not stopping:
            raise
        return 0
