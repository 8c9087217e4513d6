"""Mark and index prices, funding and open interest of HTX's swaps, merged into one message each time.

Prices are candles on `/ws_index`, whose close is the newest. Funding and open interest have no stream there: they come
by REST, asked for while prices flow. Recordings may hold the notifications' `public.*.funding_rate` instead.
https://huobiapi.github.io/docs/usdt_swap/v1/en/#general-subscribe-mark-price-kline-data
"""

from collections.abc import Mapping

from msgspec.structs import replace

from feeds.adapter import Event, Fetch
from feeds.venues.htx_rest import funding_fetch, interest_fetch, read_funding, read_interest
from feeds.venues.htx_wire import decode_funding, decode_index
from hub.instruments import Instrument
from hub.intervals import NS_PER_MS, NS_PER_S
from hub.model import Mark

__all__ = ["HtxMarks"]

POLL_NS = 60 * NS_PER_S


class HtxMarks:
    """What is known of each swap of one connection."""

    def __init__(self) -> None:
        self._marks: dict[str, Mark] = {}
        self._polled: dict[str, int] = {}

    def price(self, data: bytes, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        """Read `mark_price.1min`; once a minute it is time for what REST knows."""
        frame = decode_index(data)
        events: list[Event | Fetch] = [self._merge(instrument, frame.ts, ts_recv, mark_price=frame.tick.close)]
        if ts_recv - self._polled.get(instrument.symbol, -POLL_NS) >= POLL_NS:
            self._polled[instrument.symbol] = ts_recv
            fetches = (funding_fetch(instrument), interest_fetch(instrument))
            events += [fetch for fetch in fetches if fetch is not None]
        return events

    def index(self, data: bytes, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        """Read `index.1min`."""
        frame = decode_index(data)
        return [self._merge(instrument, frame.ts, ts_recv, index_price=frame.tick.close)]

    def notified(self, data: bytes, instruments: Mapping[str, Instrument], ts_recv: int) -> list[Mark]:
        """Read a notification of funding rates."""
        frame = decode_funding(data)
        known = [(row, instruments[row.contract_code]) for row in frame.data if row.contract_code in instruments]
        return [
            self._merge(
                instrument, frame.ts, ts_recv,
                funding_rate=row.funding_rate, next_funding_ts=_ns(row.settlement_time),
            )
            for row, instrument in known
        ]  # fmt: skip

    def fetched(self, resource: str, body: bytes, instrument: Instrument, ts_recv: int) -> list[Mark]:
        """Read the answer to a fetch; ValueError where it is none."""
        if resource == "swap_funding_rate":
            rate, ends = read_funding(body)
            return [self._merge(instrument, None, ts_recv, funding_rate=rate, next_funding_ts=ends)]
        return [self._merge(instrument, None, ts_recv, open_interest=read_interest(instrument, body))]

    def _merge(self, instrument: Instrument, ms: int | None, ts_recv: int, **known: float | int | None) -> Mark:
        mark = self._marks.get(instrument.symbol)
        if mark is None:
            mark = Mark(instrument.venue, instrument.symbol, "", None, 0, 0, None, None, None, None, None)
        mark = self._marks[instrument.symbol] = replace(mark, ts_event=_ns(ms), ts_recv=ts_recv, **known)
        return replace(mark)  # what is published gets stamped: what is kept stays its own


def _ns(ms: int | None) -> int | None:
    return ms * NS_PER_MS if ms is not None else None
