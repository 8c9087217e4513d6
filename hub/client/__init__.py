"""Read the hub from Python: over its gateway, or straight from its Redis, with the same methods.

async with Client("http://127.0.0.1:8000") as hub:
    async for item in hub.stream("quote:*:BTC-USDT"):
        match item:
            case Quote(): ...   # typed messages of hub.model
            case Status(): ...  # something is not, or no longer, live
            case Gap(): ...     # events were lost for good
            case Live(): ...    # of a stream with `since`: what was stored is told, now comes the stream
"""

from hub.client.client import Client
from hub.client.items import Gap, Item, Live
from hub.client.orderbook import LocalBook, OrderBooks
from hub.client.rows import BookSnapshot, CandleRow, QuoteRow, Rows, Source, TickerRow, TradeRow, VenueRow
from hub.client.stream import Stream
from hub.client.sync import SyncClient, SyncOrderBooks, SyncStream
from hub.model import Book, Candle, Depth, Mark, Message, Quote, Status, Ticker, Trade

__all__ = [
    "Book",
    "BookSnapshot",
    "Candle",
    "CandleRow",
    "Client",
    "Depth",
    "Gap",
    "Item",
    "Live",
    "LocalBook",
    "Mark",
    "Message",
    "OrderBooks",
    "Quote",
    "QuoteRow",
    "Rows",
    "Source",
    "Status",
    "Stream",
    "SyncClient",
    "SyncOrderBooks",
    "SyncStream",
    "Ticker",
    "TickerRow",
    "Trade",
    "TradeRow",
    "VenueRow",
]
