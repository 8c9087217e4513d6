"""`tickwire quote`, `book`, `trades`, `candles`, `venues`, `instruments`: one read over REST, as a table, JSON or CSV.

What was asked for goes to stdout, everything else to stderr.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import wraps
from typing import Any, Final, TypeVar

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hub import config
from hub.cli.parts import gateway_address
from hub.client.client import Client
from hub.client.rows import Rows

__all__ = ["STATE_STYLES", "book", "candles", "default_url", "fitting", "instruments", "quote", "trades", "venues"]

STATE_STYLES: Final = {"live": "green", "stale": "yellow", "resyncing": "magenta", "down": "bold red"}
#: Columns of a table that goes into a file or a pipe.
WIDE: Final = 400
_RIGHT: Final = frozenset(("int", "float"))
_SIDES: Final = {"buy": "green", "sell": "red", "bid": "green", "ask": "red"}

#: What the tables show, of what CSV and JSON have.
COLUMNS: Final = {
    "quote": ("symbol", "venue", "bid", "bid_size", "ask", "ask_size", "bid_venue", "ask_venue", "state", "age_ms"),
    "book": ("venue", "side", "level", "price", "size", "state"),
    "trades": ("venue", "ts_event", "side", "price", "size", "trade_id"),
    "candles": ("venue", "start", "open", "high", "low", "close", "volume", "trades", "source"),
    "venues": ("venue", "state", "age_ms", "symbols", "messages", "connections", "books_live", "books_wanted",
               "reason"),
    "instruments": ("symbol", "venue", "venue_symbol", "kind", "tick_size", "lot_size", "min_notional", "status"),
}  # fmt: skip

#: Columns a narrow terminal does without, in this order: prices and states stay.
DISPENSABLE: Final = (
    "trade_id", "min_notional", "lot_size", "tick_size", "connections", "messages", "symbols", "source", "trades",
    "ask_venue", "bid_venue", "24 h", "last", "spread", "ask_size", "bid_size", "books_wanted", "books_live", "level",
    "volume", "venue_symbol", "age_ms", "age", "ts_event", "open", "status", "reason",
)  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])


def default_url() -> str:
    """Return where the configured gateway listens, seen from this machine."""
    host, port = gateway_address(config.load())
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _reading(ask: Callable[..., Awaitable[Rows[Any]]]) -> Callable[..., None]:
    """Add the options that all reads have, and print what is read."""

    @click.option("--url", envvar="TICKWIRE_URL", help="The gateway (default: the configured one). [env: TICKWIRE_URL]")
    @click.option("--json", "form", flag_value="json", help="Print a JSON array.")
    @click.option("--csv", "form", flag_value="csv", help="Print CSV with a header line.")
    @wraps(ask)
    def command(url: str | None, form: str | None, **arguments: Any) -> None:
        async def read() -> Rows[Any]:
            async with Client(url or default_url()) as hub:
                return await ask(hub, **arguments)

        with Console(stderr=True).status("asking the gateway …"):  # on a terminal only
            rows = asyncio.run(read())
        show(ask.__name__, rows, form)

    return command


_venue = click.option("--venue", help="One venue (default: all).")


@click.command()
@click.argument("symbols", nargs=-1, metavar="[SYMBOL]...")
@_venue
@_reading
async def quote(hub: Client, symbols: Sequence[str], venue: str | None) -> Rows[Any]:
    """Best bid and ask per venue (`all`: consolidated); without SYMBOL of everything."""
    return await hub.quotes(*symbols, venue=venue)


@click.command()
@click.argument("symbol")
@_venue
@click.option("--depth", default=10, show_default=True, help="Levels per side.")
@_reading
async def book(hub: Client, symbol: str, venue: str | None, depth: int) -> Rows[Any]:
    """Order books, per venue; none is shown that is not valid."""
    return await hub.book(symbol, venue, depth=depth)


@click.command()
@click.argument("symbol")
@_venue
@click.option("--limit", default=20, show_default=True, help="Trades per venue.")
@_reading
async def trades(hub: Client, symbol: str, venue: str | None, limit: int) -> Rows[Any]:
    """The newest trades per venue, oldest first."""
    return await hub.trades(symbol, venue, limit=limit)


@click.command()
@click.argument("symbol")
@_venue
@click.option("--interval", default="1m", show_default=True, help="Length of a candle: 10s, 1m, 5m, 1h, 1d …")
@click.option("--start", metavar="TIME", help="From here on (ISO 8601).")
@click.option("--end", metavar="TIME", help="Up to here, not included (ISO 8601).")
@click.option("--limit", default=50, show_default=True, help="Candles per venue.")
@_reading
async def candles(
    hub: Client, symbol: str, venue: str | None, interval: str, start: str | None, end: str | None, limit: int
) -> Rows[Any]:
    """Closed candles per venue, oldest first."""
    return await hub.candles(symbol, venue, interval=interval, start=start, end=end, limit=limit)


@click.command()
@_reading
async def venues(hub: Client) -> Rows[Any]:
    """How each feed is: state, connections, messages, books."""
    return await hub.venues()


@click.command()
@click.argument("symbol", required=False)
@_venue
@click.option("--text", help="Part of symbol, name or the venue's spelling.")
@_reading
async def instruments(hub: Client, symbol: str | None, venue: str | None, text: str | None) -> Rows[Any]:
    """What venues list."""
    return await hub.instruments(symbol, venue=venue, text=text)


def show(name: str, rows: Rows[Any], form: str | None) -> None:
    """Print rows to stdout; the states of venues that are not live go to stderr where the rows do not show them."""
    columns = COLUMNS[name]
    if form == "json":
        click.echo(rows.to_json())
    elif form == "csv":
        click.echo(rows.to_csv(), nl=False)
    else:
        console = Console()
        if not console.is_terminal:
            console.width = WIDE
        records = rows.records()
        console.print(fitting(console, columns, lambda shown: table(shown, records)))
    if not rows:
        click.echo("nothing there", err=True)
    for source in rows.sources:
        if source.state != "live" and ("state" not in columns or not rows or form == "csv"):
            click.echo(f"{source.venue} {source.symbol}: {source.state} ({source.reason})", err=True)


def fitting(console: Console, columns: Sequence[str], make: Callable[[Sequence[str]], Table]) -> Table:
    """Return a table that fits the terminal: columns go, the most dispensable first, before any value is cut short."""
    shown = list(columns)
    made = make(shown)
    for name in DISPENSABLE:
        if console.measure(made, options=console.options.update(max_width=WIDE)).maximum <= console.width:
            break
        if name in shown:
            shown.remove(name)
            made = make(shown)
    return made


def table(columns: Sequence[str], records: Sequence[dict[str, Any]]) -> Table:
    """Return a table of these columns; those that are empty everywhere are left out."""
    shown = [name for name in columns if any(record.get(name) is not None for record in records)] or list(columns)
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in shown:
        kinds = {type(record[name]).__name__ for record in records if record.get(name) is not None}
        made.add_column(name, justify="right" if kinds and kinds <= _RIGHT else "left", no_wrap=True)
    for record in records:
        made.add_row(*(cell(name, record.get(name)) for name in shown))
    return made


def cell(name: str, value: Any) -> Text:
    if value is None:
        return Text("-", style="dim")
    if name in {"start", "ts_event", "ts_recv"}:
        moment = datetime.fromtimestamp(value / 1e9, UTC)
        return Text(moment.strftime("%Y-%m-%d %H:%M:%S" if name == "start" else "%H:%M:%S.%f"))
    if name == "age_ms":
        return Text(age(value))
    style = STATE_STYLES.get(str(value), "") if name == "state" else _SIDES.get(str(value), "")
    return Text(number(value) if isinstance(value, float) else str(value), style=style)


def number(value: float) -> str:
    """Return a price or size as people write it: no exponent, no needless zeros."""
    # 15 digits are what a float64 holds for sure; sums have more.
    text = format(Decimal(f"{value:.15g}"), ",f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def age(ms: int) -> str:
    """Return a time span for people: 85 ms, 2.3 s, 4 min, 7 h."""
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if ms >= length:
            return f"{ms // length} {unit}"
    return f"{ms / 1000:.1f} s" if ms >= 1000 else f"{ms} ms"
