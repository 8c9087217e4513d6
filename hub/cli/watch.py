"""`tickwire watch SYMBOL...`: a live table of symbols and venues; where there is no terminal, a line per change."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import click
from msgspec import UNSET
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hub.cli.query import STATE_STYLES, age, default_url, fitting, number
from hub.client.client import Client
from hub.client.items import Item
from hub.client.stream import Stream
from hub.keys import ALL_VENUES
from hub.model import Quote, State, Ticker

__all__ = ["Board", "watch"]

RATE_PER_S: Final = 4.0
COLUMNS: Final = ("symbol", "venue", "bid", "bid_venue", "ask", "ask_venue", "spread", "last", "24 h", "age", "state",
                  "reason")  # fmt: skip
_LEFT: Final = frozenset(("symbol", "venue", "bid_venue", "ask_venue", "state", "reason"))


class Board:
    """What is known of each symbol at each venue."""

    def __init__(self) -> None:
        self.quotes: dict[tuple[str, str], Quote] = {}
        self.tickers: dict[tuple[str, str], Ticker] = {}

    def take(self, item: Item) -> Quote | None:
        """Note an item; returns it where it is a quote."""
        match item:
            case Quote():
                self.quotes[item.symbol, item.venue] = item
                return item
            case Ticker():
                self.tickers[item.symbol, item.venue] = item
        return None

    def table(self, console: Console, stream: Stream, now_ns: int) -> Table:
        """Return a row per symbol and venue, the consolidated one first, in as many columns as there is room for."""
        names = sorted({*self.quotes, *self.tickers}, key=lambda row: (row[0], row[1] != ALL_VENUES, row[1]))
        rows = [self._row(stream, symbol, venue, now_ns) for symbol, venue in names]

        def make(columns: Sequence[str]) -> Table:
            made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
            for name in columns:
                made.add_column(name, justify="left" if name in _LEFT else "right", no_wrap=True)
            for row in rows:
                made.add_row(*(row[name] for name in columns))
            if not rows:
                made.add_row(Text("nothing received yet", style="dim"))
            return made

        return fitting(console, COLUMNS, make)

    def _row(self, stream: Stream, symbol: str, venue: str, now_ns: int) -> dict[str, Text]:
        quote, ticker = self.quotes.get((symbol, venue)), self.tickers.get((symbol, venue))
        kind = "quote" if quote is not None else "ticker"
        state, reason = stream.state(f"{kind}:{venue}:{symbol}")
        newest = max(m.ts_recv for m in (quote, ticker) if m is not None)
        dim = "" if state == "live" else "dim"
        style = STATE_STYLES[state]
        return {
            "symbol": Text(symbol),
            "venue": Text(venue, style="bold" if venue == ALL_VENUES else ""),
            "bid": Text(_price(quote.bid if quote else None), style=dim or "green"),
            "bid_venue": Text(_venue_of(quote, "bid"), style="dim"),
            "ask": Text(_price(quote.ask if quote else None), style=dim or "red"),
            "ask_venue": Text(_venue_of(quote, "ask"), style="dim"),
            "spread": Text(spread(quote), style=dim),
            "last": Text(_price(ticker.last_price if ticker else None), style=dim),
            "24 h": change(ticker),
            "age": Text(age(max(0, (now_ns - newest) // 1_000_000)), style=dim),
            "state": Text(state, style=style),
            "reason": Text(reason if state != "live" else "", style=style),
        }


def _price(value: float | None) -> str:
    return "-" if value is None else number(value)


def _venue_of(quote: Quote | None, side: str) -> str:
    name = getattr(quote, f"{side}_venue", UNSET)
    return name if isinstance(name, str) else ""


def spread(quote: Quote | None) -> str:
    """Return the spread in 1/10,000 of mid."""
    if quote is None or quote.bid is None or quote.ask is None or quote.bid + quote.ask == 0:
        return "-"
    return f"{(quote.ask - quote.bid) / ((quote.ask + quote.bid) / 2) * 10_000:.2f} bp"


def change(ticker: Ticker | None) -> Text:
    """Return the change of the last price over 24 hours."""
    if ticker is None or ticker.last_price is None or not ticker.open_price:
        return Text("-")
    percent = (ticker.last_price / ticker.open_price - 1) * 100
    return Text(f"{percent:+.2f} %", style="green" if percent >= 0 else "red")


@click.command()
@click.argument("symbols", nargs=-1, required=True, metavar="SYMBOL...")
@click.option("--venue", help="One venue (default: all, and consolidated).")
@click.option("--url", envvar="TICKWIRE_URL", help="The gateway (default: the configured one). [env: TICKWIRE_URL]")
def watch(symbols: Sequence[str], venue: str | None, url: str | None) -> None:
    """Live table: bid, ask, spread, last, 24 h change, age and state, until Ctrl-C."""
    names = [f"{kind}:{venue or '*'}:{symbol}" for symbol in symbols for kind in ("quote", "ticker")]
    if venue is None:
        names += [f"quote:{ALL_VENUES}:{symbol}" for symbol in symbols]
    asyncio.run(_watch(url or default_url(), names))


async def _watch(url: str, names: Sequence[str]) -> None:
    console, board = Console(), Board()
    async with Client(url, patience_s=0.0) as hub, hub.stream(*names, max_rate=RATE_PER_S) as stream:
        if not console.is_terminal:
            await _lines(board, stream)
            return
        with Live(console=console, auto_refresh=False, screen=True) as live:
            drawn = 0.0
            while True:
                try:
                    async with asyncio.timeout(1 / RATE_PER_S):
                        for item in await stream.batch():
                            board.take(item)
                except TimeoutError:
                    pass  # ages go on
                if time.monotonic() - drawn >= 1 / RATE_PER_S:
                    drawn = time.monotonic()
                    live.update(board.table(console, stream, time.time_ns()), refresh=True)


async def _lines(board: Board, stream: Stream) -> None:
    """Print a line per quote, and per change of a state."""
    states: dict[str, State] = {}
    async for item in stream:
        quote = board.take(item)
        if quote is not None:
            when = datetime.fromtimestamp(quote.ts_recv / 1e9, UTC).strftime("%H:%M:%S.%f")[:-3]
            state, reason = stream.state(f"quote:{quote.venue}:{quote.symbol}")
            values = f"{_price(quote.bid)} {_price(quote.ask)} {spread(quote)}"
            click.echo(f"{when} {quote.symbol} {quote.venue} {values} {state}")
            continue
        for symbol, venue in board.quotes:
            name = f"quote:{venue}:{symbol}"
            state, reason = stream.state(name)
            if states.setdefault(name, "live") != state:
                states[name] = state
                click.echo(f"{symbol} {venue} is {state} {reason}".rstrip(), err=True)
