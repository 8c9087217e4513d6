"""Run a Redis server on loopback, and end it cleanly. Finding one is hub/redis_binary.py's job.

Used when no `redis.url` is configured. `python -m hub.embedded` runs it in the foreground as a part of `tickwire up`;
`EmbeddedRedis` is the same for tests and scripts. The data lives in one folder, which one server at a time may use.

On Linux the server ends with the process that started it, by SIGKILL too, because the kernel is asked for that. macOS
has no such request: there a killed starter leaves its server running, and the next start names its process id.
"""

import asyncio
import fcntl
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Final, NoReturn, Self

from hub.config import RedisSettings, Settings
from hub.errors import ConfigError
from hub.processes import die_with_parent, load_or_exit, run
from hub.redis_binary import Server, find_server

__all__ = ["EmbeddedRedis", "configured_port", "free_port", "main", "port_is_free"]

logger = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 4.0
#: How long a start waits for the server of a killed predecessor to finish writing.
LOCK_TIMEOUT_S: Final = 5.0
POLL_S: Final = 0.02

CONF: Final = """\
# Written by Tickwire at each start; edit hub.toml instead.
bind {host}
port {port}
protected-mode yes
daemonize no
dir {dir}
pidfile {pidfile}
logfile ""
loglevel {loglevel}
save ""
appendonly yes
appendfsync everysec
maxmemory {maxmemory}
# A full server must refuse writes visibly. Evicting would lose events silently.
maxmemory-policy noeviction
client-output-buffer-limit pubsub 32mb 8mb 60
"""


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the server does it; without this a port of a connection that just ended would look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def configured_port(data_dir: str | Path) -> int | None:
    """Return the port the server of `data_dir` was last started on."""
    with suppress(OSError):
        found = re.search(r"^port (\d+)$", (Path(data_dir) / "redis.conf").read_text(), re.MULTILINE)
        return int(found.group(1)) if found else None
    return None


class EmbeddedRedis:
    """One server on one data folder. `start` may follow `stop` or `kill`: same port, same data unless wiped.

    `port` 0 chooses a free one, once. `output` receives the server's log; None: `redis.log` in the data folder.
    `async with` starts and stops it. Not tied to an event loop.
    """

    def __init__(
        self,
        data_dir: str | Path,
        port: int = 0,
        *,
        timeseries: bool = True,
        wheel: bool = True,
        maxmemory: str = "2gb",
        output: IO[bytes] | IO[str] | None = None,
    ) -> None:
        self.data_dir = Path(data_dir).absolute()
        self.port = port or free_port()
        self._timeseries, self._wheel, self._maxmemory, self._output = timeseries, wheel, maxmemory, output
        self._process: subprocess.Popen[bytes] | None = None
        self._locks: list[int] = []

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """Process id of the running server."""
        return self._process.pid if self._process is not None else None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start and wait until it answers. Raises ConfigError: folder or port in use, no server, bad settings."""
        if self._process is not None:
            raise RuntimeError("the server is running already")
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            await self._take_folder()
            server = find_server(self.data_dir, wheel=self._wheel)
            if not port_is_free(self.port):
                raise ConfigError(
                    f"redis.port = {self.port} cannot be used: another program listens on {HOST}:{self.port}. "
                    "Set redis.port to a free port, or redis.url to use that server"
                )
            self._spawn(server)
            await self._until_ready()
        except BaseException:
            await self.kill()
            raise
        module = "no" if server.module is None or not self._timeseries else "yes"
        logger.info("redis started port=%d server=%s timeseries=%s", self.port, server.binary, module)

    async def stop(self) -> int:
        """End it cleanly: everything is on disk when this returns. Returns its exit code; 0 when it did not run."""
        if self._process is not None:
            self._process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await self.wait()
            except TimeoutError:
                logger.warning("redis did not stop in time timeout_s=%g", STOP_TIMEOUT_S)
        return await self.kill()

    async def kill(self) -> int:
        """End it with SIGKILL, as a crash would. Returns its exit code; 0 when it did not run."""
        code = 0
        if self._process is not None:
            self._process.kill()
            code = await self.wait()
            self._process = None
        while self._locks:
            os.close(self._locks.pop())
        return code

    def wipe(self) -> None:
        """Delete the data of a server that does not run."""
        if self._process is not None:
            raise RuntimeError("the server is running")
        for file in self.data_dir.glob("appendonly*"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()

    async def wait(self) -> int:
        """Wait until the server ends; return its exit code, negative for a signal."""
        process = self._process
        while process is not None and process.poll() is None:  # noqa: ASYNC110 - a Popen outlives event loops
            await asyncio.sleep(POLL_S)
        return process.returncode if process is not None else 0

    async def _take_folder(self) -> None:
        """Lock the data folder, once for this starter and once for its server.

        The server inherits its lock and so keeps it when the starter was killed; it is then about to end.
        """
        self._locks = [_lock(self.data_dir / "starter.lock") or self._refuse()]
        os.ftruncate(self._locks[0], 0)
        os.pwrite(self._locks[0], f"{os.getpid()}\n".encode(), 0)
        deadline = asyncio.get_running_loop().time() + LOCK_TIMEOUT_S
        while (lock := _lock(self.data_dir / "server.lock")) is None:
            if asyncio.get_running_loop().time() > deadline:
                self._refuse()
            await asyncio.sleep(POLL_S)
        self._locks.append(lock)

    def _refuse(self) -> NoReturn:
        starter, server = _read_pid(self.data_dir / "starter.lock"), _read_pid(self.data_dir / "redis.pid")
        raise ConfigError(
            f"redis.data_dir = {str(self.data_dir)!r} is in use (started by process {starter}, "
            f"redis-server is process {server}); stop that one first, or set another redis.data_dir"
        )

    def _spawn(self, server: Server) -> None:
        conf = self.data_dir / "redis.conf"
        quiet = self._output is not None
        text = CONF.format(
            host=HOST,
            port=self.port,
            dir=_quoted(self.data_dir),
            pidfile=_quoted(self.data_dir / "redis.pid"),
            loglevel="warning" if quiet else "notice",
            maxmemory=self._maxmemory,
        )
        if self._timeseries and server.module is not None:
            text += f"loadmodule {_quoted(server.module)}\n"
        conf.write_text(text)
        log = self._output if self._output is not None else (self.data_dir / "redis.log").open("wb")
        try:
            self._process = subprocess.Popen(
                [server.binary, str(conf)],
                env={**os.environ, **server.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=self._locks[1:],
                preexec_fn=_before_exec(),
            )
        finally:
            if log is not self._output:
                log.close()

    async def _until_ready(self) -> None:
        assert self._process is not None
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while (answer := await _ping(self.port)) != b"+PONG":
            code = self._process.poll()
            if code is not None:
                raise ConfigError(f"redis-server ended at start with exit code {code}{self._log_tail()}")
            if answer.startswith(b"-LOADING"):  # reads its data, however long that takes
                deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
            if asyncio.get_running_loop().time() > deadline:
                raise ConfigError(f"redis-server did not answer within {START_TIMEOUT_S:g} s{self._log_tail()}")
            await asyncio.sleep(POLL_S)

    def _log_tail(self) -> str:
        if self._output is not None:
            return "; its log is above"
        with suppress(OSError):
            lines = (self.data_dir / "redis.log").read_text(errors="replace").splitlines()
            return ": " + " | ".join(lines[-5:])
        return ""


def _before_exec() -> Callable[[], None]:
    # SIGTERM, not SIGKILL: the server writes what it has before it ends.
    return partial(die_with_parent, os.getpid(), signal.SIGTERM)


def _quoted(value: object) -> str:
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _read_pid(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _lock(file: Path) -> int | None:
    """Take an exclusive lock that ends with the last process that has it; None where another one has it."""
    lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


async def _ping(port: int) -> bytes:
    """Return the first line of the answer to PING; empty where nobody answers."""
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(b"PING\r\n")
                return (await reader.readline()).strip()
            finally:
                writer.close()
                await writer.wait_closed()
    except (OSError, TimeoutError):
        return b""


async def _serve(settings: RedisSettings) -> int:
    server = EmbeddedRedis(
        settings.data_dir,
        settings.port,
        wheel=settings.server == "auto",
        maxmemory=settings.maxmemory,
        output=sys.stdout,
    )
    await server.start()
    logger.info("redis answers port=%d", settings.port)
    try:
        code = await server.wait()
    except asyncio.CancelledError:
        return await server.stop()
    logger.error("redis-server ended by itself exit_code=%d", code)
    await server.kill()
    return code if code >= 0 else 128 - code


def main(settings: Settings) -> None:
    run(partial(_serve, settings.redis), "redis", settings)


if __name__ == "__main__":
    main(load_or_exit())
