"""A lean Redis connection for the two hot paths: pipelines out, pub/sub in.

One socket, RESP3, hiredis for parsing and nothing in between. Commands are written as they are given; their replies
come back in order as one list, pub/sub pushes go to a callback, all pushes of one socket read together. Everything
else the hub asks of Redis goes through redis-py (hub/redisio.py). Reconnecting is the owner's decision.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, cast

import hiredis
from redis.asyncio.connection import SSLConnection, parse_url

from hub.errors import RedisUnavailable
from hub.log import mask_url

__all__ = ["Link", "Push", "PushHandler", "RedisProtocolError", "RedisReplyError", "ReplyHandler", "pack"]

Push: TypeAlias = Sequence[Any]
"""One RESP3 push: `[b"message", channel, payload]`, `[b"subscribe", channel, count]`, …"""

PushHandler: TypeAlias = Callable[[list[Push]], None]
ReplyHandler: TypeAlias = Callable[[list[Any] | ConnectionError], None]


class _Packer(Protocol):
    def __call__(self, args: tuple[str | bytes | int | float, ...]) -> bytes: ...


_pack = cast(_Packer, hiredis.pack_command)


def pack(*args: str | bytes | int | float) -> bytes:
    """Return one command as RESP bytes."""
    return _pack(args)


class RedisReplyError(Exception):
    """An error reply; `str()` is Redis's text."""


class RedisProtocolError(Exception):
    """Bytes that are no RESP."""


class _Redirected(Exception):
    """The server is not, or not alone, responsible for the key."""


#: Error replies of a Cluster that say that our map of it is old. They may answer a SSUBSCRIBE, which nobody waits for:
#: so they are nobody's reply, they end the link.
REDIRECTS = ("MOVED ", "ASK ", "TRYAGAIN ", "CLUSTERDOWN ")


class _Waiter:
    __slots__ = ("count", "done", "replies")

    def __init__(self, count: int, done: ReplyHandler) -> None:
        self.count = count
        self.done = done
        self.replies: list[Any] = []


class Link(asyncio.Protocol):
    """One connection. Made by `connect`; when it breaks, `closed` is done and every waiting reply fails."""

    def __init__(self, url: str, on_push: PushHandler | None = None) -> None:
        self.url = url
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_push = on_push
        self._reader = hiredis.Reader(protocolError=RedisProtocolError, replyError=RedisReplyError)
        self._transport: asyncio.Transport | None = None
        self._waiters: deque[_Waiter] = deque()
        self._writable = asyncio.Event()
        self._writable.set()

    @classmethod
    async def connect(
        cls, url: str, on_push: PushHandler | None = None, *, name: str = "tickwire", timeout_s: float = 5.0
    ) -> "Link":
        """Open, authenticate and switch to RESP3. Raises RedisUnavailable, without the password in its text."""
        link: Link | None = None
        try:
            async with asyncio.timeout(timeout_s):
                link = await cls._open(url, on_push)
                await link._greet(url, name)
                return link
        except TimeoutError as error:
            raise RedisUnavailable(mask_url(url), f"no answer within {timeout_s:g} s") from error
        except (OSError, RedisReplyError, ValueError) as error:
            raise RedisUnavailable(mask_url(url), str(error)) from error
        finally:
            if link is not None and not link.ready:
                link.close()

    ready = False

    @classmethod
    async def _open(cls, url: str, on_push: PushHandler | None) -> "Link":
        loop = asyncio.get_running_loop()
        options = parse_url(url)
        if "path" in options:
            _, link = await loop.create_unix_connection(lambda: cls(url, on_push), options["path"])
            return link
        context = _tls(options) if options.get("connection_class") is SSLConnection else None
        host, port = options.get("host", "localhost"), options.get("port", 6379)
        _, link = await loop.create_connection(lambda: cls(url, on_push), host, port, ssl=context)
        return link

    async def _greet(self, url: str, name: str) -> None:
        options = parse_url(url)
        hello: list[str | int] = ["HELLO", 3]
        if options.get("password"):
            hello += ["AUTH", options.get("username") or "default", options["password"]]
        hello += ["SETNAME", name]
        commands = [pack(*hello)]
        if options.get("db"):
            commands.append(pack("SELECT", options["db"]))
        for reply in await self.call(commands):
            if isinstance(reply, Exception):
                raise reply
        self.ready = True

    def call(self, commands: Sequence[bytes]) -> "asyncio.Future[list[Any]]":
        """Write packed commands; the future gives their replies in order (error replies as RedisReplyError values).

        It fails with ConnectionError when the link breaks first: the commands may or may not have been carried out.
        """
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        def done(outcome: list[Any] | ConnectionError) -> None:
            if future.done():
                return
            if isinstance(outcome, ConnectionError):
                future.set_exception(outcome)
                future.exception()  # marked as seen: whoever awaits gets it, whoever gave up leaves no warning
            else:
                future.set_result(outcome)

        self.send(b"".join(commands), len(commands), done)
        return future

    def send(self, data: bytes, count: int, done: ReplyHandler) -> None:
        """Write `count` joined commands; `done` is called with their replies while they are read.

        So `done` runs after every push that Redis sent before the replies, and before every push that came after:
        what a join of snapshot and stream relies on.
        """
        if self._transport is None or self.closed.done():
            done(ConnectionResetError("the Redis connection is closed"))
            return
        self._waiters.append(_Waiter(count, done))
        self._transport.write(data)

    def write(self, data: bytes) -> None:
        """Write commands that answer with pushes only (SUBSCRIBE, UNSUBSCRIBE)."""
        if self._transport is not None and not self.closed.done():
            self._transport.write(data)

    async def drained(self) -> None:
        """Wait until the write buffer is below its high-water mark, or the link is closed."""
        await self._writable.wait()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        reader, waiters = self._reader, self._waiters
        pushes: list[Push] = []
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                if isinstance(reply, hiredis.PushNotification):
                    pushes.append(reply)
                    continue
                if pushes:
                    self._pushed(pushes)
                    pushes = []
                if type(reply) is RedisReplyError and str(reply).startswith(REDIRECTS):
                    raise _Redirected(str(reply))
                waiter = waiters[0]
                waiter.replies.append(reply)
                if len(waiter.replies) == waiter.count:
                    waiters.popleft()
                    waiter.done(waiter.replies)
        except (RedisProtocolError, IndexError, _Redirected) as error:
            self._fail(error)
            return
        if pushes:
            self._pushed(pushes)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _pushed(self, pushes: list[Push]) -> None:
        if self._on_push is not None:
            self._on_push(pushes)

    def _fail(self, exc: Exception | None) -> None:
        self._writable.set()
        if not self.closed.done():
            self.closed.set_result(None)
        if self._transport is not None:
            self._transport.abort()
        while self._waiters:
            self._waiters.popleft().done(ConnectionResetError(f"the Redis connection broke: {exc or 'closed'}"))


def _tls(options: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if str(options.get("ssl_cert_reqs", "required")).lower() in {"none", "ssl.cert_none"}:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif str(options.get("ssl_check_hostname", "true")).lower() in {"false", "0"}:
        context.check_hostname = False
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    return context
