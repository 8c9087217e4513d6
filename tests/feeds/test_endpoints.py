"""A venue with several endpoints: what one connection loses or has is not said of the other."""

from typing import Any

from feeds.adapter import Acked, BookUpdate, Subscription
from feeds.connection import Connection
from feeds.pipeline import Pipeline, Source
from feeds.venues.binance_futures import BinanceFutures
from hub.config import BookSettings, CandleSettings
from hub.instruments import Instrument
from hub.model import Book, Candle, Message, Status, Trade, kind_of

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
ROW = Instrument(
    venue="binance_futures", venue_symbol="BTCUSDT", symbol="BTC-USDT-PERP", kind="perpetual", base="BTC", quote="USDT"
)
KINDS = ["trade", "quote", "book", "depth", "ticker", "mark", "candle"]


class Heard:
    def __init__(self) -> None:
        self.messages: list[Message] = []

    def publish(self, message: Message) -> None:
        self.messages.append(message)

    def renew(self, snapshot: Book) -> None: ...

    def withdraw(self, kind: str, symbol: str) -> None: ...

    def states(self) -> list[str]:
        return [each.state for each in self.messages if isinstance(each, Status)]


def pipeline() -> tuple[Pipeline, Heard]:
    heard = Heard()
    made = Pipeline(BinanceFutures, KINDS, BookSettings(), CandleSettings(), heard)
    made.add(ROW)
    return made, heard


def connection(made: Pipeline, *kinds: str) -> Connection:
    subs = [Subscription(kind, ROW) for kind in kinds]
    adapter = BinanceFutures([ROW], 1000, BinanceFutures.endpoint_of(kinds[0], ROW))

    def submit(*_: Any) -> None: ...

    return Connection(adapter, "ws://nowhere", subs, made, submit, 1)


def trade(number: int, ts: int) -> Trade:
    return Trade("binance_futures", ROW.symbol, "", ts, ts, 0, 1.0, 1.0, "buy", str(number))


def test_what_one_endpoint_lost_the_other_does_not_bring_back() -> None:
    made, heard = pipeline()
    public, market = connection(made, "quote", "book", "depth").source, connection(made, "trade", "candle").source
    made.feed(public, [BookUpdate(ROW, True, [(1.0, 1.0)], [(2.0, 1.0)], START, START)])
    made.lost(market, [ROW.symbol], "gone", START)
    assert made.owns_books(public, [ROW.symbol])
    assert heard.states()[-1] == "stale"
    made.lost(public, [ROW.symbol], "gone too", START)
    assert not made.owns_books(public, [ROW.symbol])
    made.feed(public, [BookUpdate(ROW, True, [(1.0, 1.0)], [(2.0, 1.0)], START, START)])
    made.flowing(public, [ROW.symbol], START)
    assert heard.states()[-1] == "stale"
    made.flowing(market, [ROW.symbol], START)
    assert heard.states()[-1] == "live"


def closed(lost: str) -> list[Candle]:
    """Return the candles of a second in which one of the two connections was away."""
    made, heard = pipeline()
    sources = {"public": connection(made, "quote", "book").source, "market": connection(made, "trade").source}
    for source in sources.values():
        made.flowing(source, [ROW.symbol], START)
    second = START + 10 * SECOND
    made.feed(sources["market"], [trade(1, second - 1), trade(2, second + 1)])
    made.lost(sources[lost], [ROW.symbol], "gone", second + 2)
    made.flowing(sources[lost], [ROW.symbol], second + SECOND // 2)
    missed = lost == "market"  # what was traded meanwhile; ids without a hole would prove that nothing was
    made.feed(sources["market"], [trade(3 + missed, second + SECOND - 1), trade(4 + missed, second + SECOND + 1)])
    made.tick(second + 20 * SECOND)
    candles = [each for each in heard.messages if isinstance(each, Candle)]
    return [each for each in candles if kind_of(each) == "candle.1s" and each.start == second]


def test_candles_mind_the_endpoint_with_the_trades() -> None:
    assert closed("market") == []
    (candle,) = closed("public")
    assert candle.trades == 2


def test_a_connection_without_books_is_ready_without_books() -> None:
    made, _ = pipeline()
    for kinds, ready in ((("trade", "ticker"), True), (("quote", "book"), False)):
        line = connection(made, *kinds)
        line.open = True
        assert not line.ready
        line._notice([Acked(tuple(line.adapter.venue_channels(line.subs)))], START)
        assert line.ready is ready


def test_one_endpoint_is_everything() -> None:
    source = Source(BinanceFutures([ROW]), 1)
    assert (source.cause, source.has_trades) == ("", True)
