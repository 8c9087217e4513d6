"""What Binance would send and answer, and a sink that keeps what a pipeline makes of it."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from feeds.venues.binance import Binance
from hub.builder import MessageBuilder
from hub.instruments import Instrument
from hub.keys import Keys
from hub.model import Book, Message, decode

MS = 1_000_000
T0 = 1_700_000_000_000
"""unix ms"""
Pairs = Iterable[tuple[float | str, float | str]]


def instrument(venue_symbol: str = "BTCUSDT", symbol: str = "BTC-USDT") -> Instrument:
    base, _, quote = symbol.partition("-")
    return Instrument(venue="binance", venue_symbol=venue_symbol, symbol=symbol, kind="spot", base=base, quote=quote)


BTC, ETH = instrument(), instrument("ETHUSDT", "ETH-USDT")


def adapter(*rows: Instrument, levels: int = 1000) -> Binance:
    return Binance(rows or (BTC, ETH), levels)


def framed(stream: str, data: Any) -> bytes:
    return json.dumps({"stream": stream, "data": data}).encode()


def agg_trade(
    number: int, price: float = 1.0, size: float = 1.0, *, ms: int = T0, sold: bool = False, fills: int = 1,
    symbol: str = "BTCUSDT",
) -> bytes:  # fmt: skip
    data = {
        "e": "aggTrade", "E": ms + 1, "s": symbol, "a": number, "p": f"{price:.8f}", "q": f"{size:.8f}",
        "f": 10 * number, "l": 10 * number + fills - 1, "T": ms, "m": sold, "M": True,
    }  # fmt: skip
    return framed(f"{symbol.lower()}@aggTrade", data)


def best(update: int, bid: float, ask: float, *, symbol: str = "BTCUSDT") -> bytes:
    data = {"u": update, "s": symbol, "b": f"{bid:.8f}", "B": "1.0", "a": f"{ask:.8f}", "A": "2.0"}
    return framed(f"{symbol.lower()}@bookTicker", data)


def diff(first: int, last: int, bids: Pairs = (), asks: Pairs = (), *, ms: int = T0, symbol: str = "BTCUSDT") -> bytes:
    data = {"e": "depthUpdate", "E": ms, "s": symbol, "U": first, "u": last, "b": texts(bids), "a": texts(asks)}
    return framed(f"{symbol.lower()}@depth@100ms", data)


def ticker(last: float, *, ms: int = T0, symbol: str = "BTCUSDT") -> bytes:
    data = {
        "e": "24hrTicker", "E": ms, "s": symbol, "c": str(last), "o": "1.0", "h": "9.0", "l": "0.5", "v": "100.0",
        "q": "200.0", "b": "1.9", "a": "2.1",
    }  # fmt: skip
    return framed(f"{symbol.lower()}@ticker", data)


def depth_body(last: int, bids: Pairs = (), asks: Pairs = ()) -> bytes:
    return json.dumps({"lastUpdateId": last, "bids": texts(bids), "asks": texts(asks)}).encode()


def texts(levels: Pairs) -> list[list[str]]:
    return [[str(price), str(size)] for price, size in levels]


class Recorder:
    """A sink that keeps everything, and sees to it that it could be sent."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.log: list[tuple[str, Any]] = []
        self._builder = MessageBuilder(Keys(), 1)

    def publish(self, message: Message) -> None:
        _, _, payload = self._builder.build(message, 1)
        assert msgspec.to_builtins(decode(payload)) == msgspec.to_builtins(message)
        self.messages.append(message)
        self.log.append(("publish", message))

    def renew(self, snapshot: Book) -> None:
        self.log.append(("renew", snapshot))

    def withdraw(self, kind: str, symbol: str) -> None:
        self.log.append(("withdraw", (kind, symbol)))

    def take(self) -> list[Message]:
        """Return what was published since the last call."""
        found, self.messages = self.messages, []
        return found

    def withdrawn(self) -> list[str]:
        """Return the kinds withdrawn since the last call."""
        found = [detail[0] for what, detail in self.log if what == "withdraw"]
        self.log = [entry for entry in self.log if entry[0] != "withdraw"]
        return found

    def taken(self) -> list[str]:
        """Return the kinds of what was published since the last call."""
        return [str(message.__struct_config__.tag) for message in self.take()]
