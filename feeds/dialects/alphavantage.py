"""Alpha Vantage, the venue's side: one path, every answer with HTTP status 200, errors included.

Documentation: https://www.alphavantage.co/documentation/
"""

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import msgspec

from feeds.dialects.base import Answer, Rules
from feeds.dialects.polled import PolledDialect

__all__ = ["AlphaVantageDialect"]

_TOLD: Final = ("function", "symbol", "interval", "from_currency", "to_currency", "keywords")
_BURST: Final = (
    "Thank you for using Alpha Vantage! Please consider spreading out your free API requests more sparingly "
    "(1 request per second)."
)


class AlphaVantageDialect(PolledDialect):
    """See feeds/dialects/base.py. Any key that is not empty is accepted."""

    venue = "alphavantage"
    rules = Rules(messages_per_s=1, streams=0, ping_s=60, rest_weight=1200)

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self._bodies: dict[tuple[str, ...], list[bytes]] = {}

    def add_body(self, resource: str, symbol: str, url: str, data: bytes) -> tuple[tuple[str, int], ...]:
        self._bodies.setdefault(_asked(dict(parse_qsl(urlsplit(url).query))), []).append(data)
        return ()

    def rest(self, path: str, query: Mapping[str, str]) -> Answer:
        if path != "/query":
            return Answer(b"not found", 404)
        if not query.get("apikey"):
            return _error("the parameter apikey is invalid or missing.")
        bodies = self._bodies.get(_asked(query))
        if bodies is not None:
            return Answer(bodies.pop(0) if len(bodies) > 1 else bodies[0])
        if query.get("function") == "GLOBAL_QUOTE":
            return Answer(b'{"Global Quote": {}}')
        return _error(f"Invalid API call. Please retry or visit the documentation for {query.get('function', '')}.")

    def limited(self, status: int, retry_after_s: int) -> Answer:
        return Answer(msgspec.json.encode({"Information": _BURST}))


def _asked(query: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(query.get(name, "") for name in _TOLD)


def _error(text: str) -> Answer:
    return Answer(msgspec.json.encode({"Error Message": text}))
