"""CoinGecko, the venue's side: recorded rows of coins, put together as they are asked for.

Documentation: https://docs.coingecko.com/reference/introduction
"""

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import msgspec

from feeds.dialects.base import Answer, Rules
from feeds.dialects.polled import PolledDialect

__all__ = ["CoinGeckoDialect"]

_ROOT: Final = "/api/v3"
_encode = msgspec.json.encode


class CoinGeckoDialect(PolledDialect):
    """See feeds/dialects/base.py. Unknown coins are left out without a word, as there."""

    venue = "coingecko"
    rules = Rules(messages_per_s=1, streams=0, ping_s=60, rest_weight=500)

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self._markets: dict[tuple[str, str], dict[str, Any]] = {}
        self._prices: dict[str, dict[str, Any]] = {}
        self._others: dict[str, bytes] = {}

    def add_body(self, resource: str, symbol: str, url: str, data: bytes) -> tuple[tuple[str, int], ...]:
        parts = urlsplit(url)
        path, query = parts.path.removeprefix(_ROOT), dict(parse_qsl(parts.query))
        if path == "/coins/markets":
            for row in msgspec.json.decode(data):
                self._markets[row["id"], query["vs_currency"]] = row
        elif path == "/simple/price":
            for coin, said in msgspec.json.decode(data).items():
                self._prices.setdefault(coin, {}).update(said)
        else:
            self._others[path + query.get("vs_currency", "")] = data
        return ()

    def rest(self, path: str, query: Mapping[str, str]) -> Answer:
        path = path.removeprefix(_ROOT)
        coins = [coin for coin in query.get("ids", "").split(",") if coin]
        if path == "/coins/markets":
            if "vs_currency" not in query:
                return Answer(b'{"error":"Missing parameter vs_currency"}', 422)
            rows = [row for (coin, vs), row in self._markets.items() if vs == query["vs_currency"]]
            return Answer(_encode([row for row in rows if not coins or row["id"] in coins]))
        if path == "/simple/price":
            if not coins:
                return Answer(b'{"error":"Missing parameter ids"}', 422)
            return Answer(_encode({coin: self._prices[coin] for coin in coins if coin in self._prices}))
        body = self._others.get(path + query.get("vs_currency", ""))
        if body is None:
            return Answer(b'{"error":"coin not found"}', 404)
        return Answer(body)

    def limited(self, status: int, retry_after_s: int) -> Answer:
        text = "You've exceeded the Rate Limit."
        body = _encode({"status": {"error_code": 429, "error_message": text}})
        return Answer(body, 429, {"Retry-After": str(retry_after_s)})
