"""Binance spot, the venue's side: streams, requests and their answers, REST.

Documentation: https://developers.binance.com/docs/binance-spot-api-docs (web-socket-streams, rest-api)

Told in a moved lap: ids and times move in the text; candles (stream and REST) are built anew from the trades, because
a recorded one that is moved would not begin on its minute. REST has only what is recorded, or follows from it: a book
or a history that nobody recorded is answered by 503 and code -1001, the venue's "internal error".
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from feeds.dialects.base import Answer, Conversation, Dialect, Item, Lap, Reading, Refused, Rules, Timeline
from feeds.dialects.binance_wire import HOLES, read_frame, rewrite, stream_names
from feeds.dialects.books import RecordedBook, RecordedSnapshot
from feeds.dialects.klines import Klines, floor_ms

__all__ = ["BinanceDialect"]
