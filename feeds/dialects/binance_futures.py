"""Binance USD-M futures, the venue's side, where it differs from spot's: two paths of streams, `pu`, REST.

Documentation: https://developers.binance.com/docs/derivatives/usds-margined-futures
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Final

from feeds.dialects.base import Conversation, Refused, Rules
from feeds.dialects.binance import BinanceDialect
from feeds.dialects.binance_socket import BinanceConversation, VenueError

__all__ = ["BinanceFuturesDialect"]

#: Streams of `/public`, by what follows the `@`; `/market` has all others.
_PUBLIC: Final = ("depth", "bookTicker", "trade", "rpiDepth")
_PATHS: Final = re.compile(r"/(public|market)/(stream|ws)(?:/(.*))?")
_DEPTH_WEIGHTS: Final = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}


class BinanceFuturesDialect(BinanceDialect):
    """See feeds/dialects/base.py."""

    venue = "binance_futures"
    rules = Rules(messages_per_s=10, streams=1024, ping_s=20, rest_weight=2400)
    pages = frozenset(_DEPTH_WEIGHTS)
    _path = r"/fapi/v[12]/(\w+)"
    _resources: ClassVar[dict[str, str]] = {**BinanceDialect._resources, "openInterest": "_open_interest"}

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self._interest: dict[str, bytes] = {}

    def add_body(self, resource: str, symbol: str, url: str, data: bytes) -> tuple[tuple[str, int], ...]:
        if resource == "openInterest":
            self._interest[symbol] = data
        return super().add_body(resource, symbol, url, data)

    def conversation(self, path: str, query: Mapping[str, str]) -> Conversation:
        match = _PATHS.fullmatch(path)
        if match is None:
            raise Refused("no such path", 404)
        combined = match[2] == "stream"
        names = query.get("streams", "") if combined else match[3] or ""
        return _Conversation(match[1], [name for name in names.split("/") if name], combined, self.rules.streams)

    def weight(self, path: str, query: Mapping[str, str]) -> int:
        resource = path.rpartition("/")[2]
        asked = query.get("limit", "")
        limit = int(asked) if asked.isdecimal() else 500
        if resource == "depth":
            return _DEPTH_WEIGHTS.get(limit, 20)
        if resource == "klines":
            return 1 if limit <= 100 else 2 if limit <= 500 else 5 if limit <= 1000 else 10
        return 1

    def _depth(self, query: Mapping[str, str]) -> bytes:
        asked = query.get("limit", "500")
        if not asked.isdecimal() or int(asked) not in self.pages:
            raise VenueError(-4021, f"{asked[:20]} is not valid depth limit.")
        return super()._depth({**query, "limit": asked})

    def _open_interest(self, query: Mapping[str, str]) -> bytes:
        symbol = self._symbol(query)
        if symbol not in self._interest:
            raise VenueError(-1001, "Internal error; no open interest is recorded.", 503)
        return self._interest[symbol]


class _Conversation(BinanceConversation):
    """One socket of `/public` or `/market`: a stream of the other is acknowledged and stays silent."""

    def __init__(self, part: str, streams: Iterable[str], combined: bool, limit: int) -> None:
        super().__init__(streams, combined, limit)
        self._part = part
        self._silence()

    def receive(self, message: bytes, binary: bool) -> list[bytes]:
        answers = super().receive(message, binary)
        self._silence()
        return answers

    def _silence(self) -> None:
        for name in list(self.topics):
            channel = name[1:] if name[:1] == "!" else name.partition("@")[2]
            if channel.startswith(_PUBLIC) != (self._part == "public"):
                del self.topics[name]
