"""What one-time reads return: rows, and rows as data frames. pandas and polars are imported when they are asked for."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

import msgspec
from msgspec import UNSET, Struct, UnsetType

from hub.errors import ConfigError
from hub.model import Level, State

if TYPE_CHECKING:
    import pandas
    import polars

__all__ = [
    "BookSnapshot",
    "CandleRow",
    "QuoteRow",
    "Rows",
    "Source",
    "TickerRow",
    "TradeRow",
    "VenueRow",
    "known",
]


class Source(Struct, kw_only=True):
    """Where rows come from and how good they are: `state` live, stale, resyncing or down, with the `reason`.

    `age_ms` is the time since the hub read the newest value off the venue's socket; `ts_event` (the venue's time) and
    `ts_recv` are int ns UTC. Without a value everything else is None.
    """

    venue: str
    symbol: str
    state: State
    reason: str = ""
    age_ms: int | None = None
    id: str | None = None
    ts_event: int | None = None
    ts_recv: int | None = None


class QuoteRow(Source, kw_only=True):
    """Best bid and ask of one venue; of venue `all` also who has them, `mid`, `spread_bps` and `imbalance`."""

    bid: float | None = None
    bid_size: float | None = None
    ask: float | None = None
    ask_size: float | None = None
    bid_venue: str | None = None
    ask_venue: str | None = None
    mid: float | None = None
    spread_bps: float | None = None
    microprice: float | None = None
    imbalance: float | None = None


class TickerRow(Source, kw_only=True):
    """Rolling 24 hours of one venue; `volume` in base, `quote_volume` in quote units, `timestamp` ISO 8601."""

    name: str | None = None
    last_price: float | None = None
    open_price: float | None = None
    high_price: float | None = None
    low_price: float | None = None
    volume: float | None = None
    quote_volume: float | None = None
    bid_price: float | None = None
    ask_price: float | None = None
    timestamp: str | None = None


class BookSnapshot(Source, kw_only=True):
    """One venue's book: (price, size), best first. No levels unless it is live or stale."""

    bids: list[Level] = []
    asks: list[Level] = []


class TradeRow(Struct, kw_only=True):
    """One trade; `side` is the aggressor's."""

    venue: str = ""
    symbol: str = ""
    id: str
    ts_event: int | None
    ts_recv: int
    price: float
    size: float
    side: Literal["buy", "sell"] | None
    trade_id: str
    count: int = 1


class CandleRow(Struct, kw_only=True):
    """One closed candle. `start` is int ns UTC; volumes in base, notionals in quote units; None where not known."""

    venue: str = ""
    symbol: str = ""
    interval: str = ""
    start: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    notional: float | None = None
    vwap: float | None = None
    trades: int | None = None
    buy_trades: int | None = None
    sell_trades: int | None = None
    buy_volume: float | None = None
    sell_volume: float | None = None
    buy_notional: float | None = None
    sell_notional: float | None = None
    source: str = ""
    revision: int = 0
    parts: int | None = None
    parts_max: int | None = None


class VenueRow(Struct, kw_only=True):
    """One feed. `age_ms`: since its newest data of any kind."""

    venue: str
    state: State
    reason: str
    age_ms: int | None
    symbols: int
    messages: int = 0
    connections: int = 0
    books_live: int = 0
    books_wanted: int = 0


T = TypeVar("T", bound=Struct)

_LEVEL_COLUMNS = ("venue", "symbol", "state", "side", "level", "price", "size")
_TIMES = frozenset({"start", "ts_event", "ts_recv", "expiry"})


class Rows(Sequence[T], Generic[T]):
    """Rows of one type. `sources` says, per venue, how good what the rows are made of is."""

    def __init__(self, kind: type[T], rows: Iterable[T], sources: Iterable[Source] = ()) -> None:
        self._kind = kind
        self._rows = tuple(rows)
        self.sources = tuple(sources)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> "Rows[T]": ...
    def __getitem__(self, index: int | slice) -> "T | Rows[T]":
        if isinstance(index, slice):
            return Rows(self._kind, self._rows[index], self.sources)
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[T]:
        return iter(self._rows)

    def __repr__(self) -> str:
        return f"<{len(self)} x {self._kind.__name__}>"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of `records` and of data frames."""
        return _LEVEL_COLUMNS if self._kind is BookSnapshot else self._kind.__struct_fields__

    def records(self) -> list[dict[str, Any]]:
        """Return a dict per row, of books one per level (`side`, `level` counted from 0, `price`, `size`)."""
        if self._kind is BookSnapshot:
            return [record for row in self._rows if isinstance(row, BookSnapshot) for record in _levels(row)]
        return [{name: getattr(row, name) for name in self.columns} for row in self._rows]

    def to_json(self) -> str:
        """Return the rows as a JSON array, a book as one object with its levels."""
        return msgspec.json.encode(self._rows).decode()

    def to_csv(self) -> str:
        """Return the records as CSV with a header line."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.records())
        return text.getvalue()

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a DataFrame; times become datetime64[ns, UTC]. ConfigError where pandas is not installed."""
        pd = _library("pandas")
        frame: pandas.DataFrame = pd.DataFrame.from_records(self.records(), columns=list(self.columns))
        for name in _TIMES.intersection(self.columns):
            # One by one: a column with holes would go through float64, which has no nanoseconds.
            times = [pd.NaT if v is None else pd.Timestamp(v, unit="ns", tz="UTC") for v in self._values(name)]
            frame[name] = pd.Series(times, index=frame.index, dtype="datetime64[ns, UTC]")
        return frame

    def to_polars(self) -> "polars.DataFrame":
        """Return a DataFrame; times become Datetime("ns", "UTC"). ConfigError where polars is not installed."""
        pl = _library("polars")
        records = self.records()
        # By column, so that an empty one keeps its name.
        data = {name: [record[name] for record in records] for name in self.columns}
        frame: polars.DataFrame = pl.DataFrame(data, strict=False)
        times = [
            pl.col(name).cast(pl.Int64).cast(pl.Datetime("ns", "UTC")).alias(name)
            for name in _TIMES.intersection(self.columns)
        ]
        return frame.with_columns(times)

    def _values(self, name: str) -> list[int | None]:
        return [getattr(row, name) for row in self._rows]


def _levels(book: BookSnapshot) -> Iterator[dict[str, Any]]:
    for side, levels in (("bid", book.bids), ("ask", book.asks)):
        for level, (price, size) in enumerate(levels):
            yield dict(
                zip(_LEVEL_COLUMNS, (book.venue, book.symbol, book.state, side, level, price, size), strict=True)
            )


def _library(name: str) -> Any:  # a module; its types are those of the annotations above
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(f"{name} is not installed; pip install 'tickwire[client]' brings it") from error


def known(value: Any) -> Any:
    """Return None for a field that a message does not have: rows always have all columns."""
    return None if isinstance(value, UnsetType) or value is UNSET else value
