"""`tickwire normalize` for venues that are polled: every recorded body is an answer, in the order of their times."""

from collections.abc import Iterable

from feeds.adapter import Event, Fetch
from feeds.ledger import CandleLedger
from feeds.normalize import Normalizer
from feeds.pipeline import Pipeline, Source
from feeds.poller import Asked, Poller
from feeds.session import Body
from hub.config import BookSettings, CandleSettings
from hub.errors import WireError
from hub.instruments import Instrument, InstrumentTable
from hub.intervals import interval_ns
from hub.model import KINDS, Candle, kind_of

__all__ = ["PolledNormalizer"]

#: For bodies without a time: by then every candle is closed.
LATE = 1 << 62


class PolledNormalizer(Normalizer):
    """Plays the bodies of one session through one poller."""

    adapter: type[Poller]

    def run(self) -> None:
        """Print everything. Raises SessionError where the session cannot be read."""
        asked = [(body, self.adapter.asked(body.url)) for body in self.session.bodies]
        kinds = {kind.partition(".")[0] for kind in KINDS} - {"candle", "book"}
        self.pipeline = Pipeline(self.adapter, kinds, BookSettings(), CandleSettings(), self.output)
        table = self._table(asked)
        for row in table:
            self.pipeline.add(row)
        self._source = Source(self.adapter(list(table)), 1)
        ledger = CandleLedger()
        for body, about in sorted(asked, key=lambda each: each[0].ts or 0):
            rows = tuple(table.by_key[name] for name in about.symbols if name in table.by_key)
            fetch = Fetch(resource=about.resource, path="", interval=about.interval, instruments=rows)
            for event in self._answered(fetch, body) if rows else ():
                admitted = ledger.admit(event) if isinstance(event, Candle) else event
                if admitted is not None:
                    self.pipeline.feed(self._source, [admitted])

    def _table(self, asked: Iterable[tuple[Body, Asked]]) -> InstrumentTable:
        """Return the instruments that bodies are about: as a list in the session names them, else by their spelling."""
        listed: list[Instrument] = []
        bodies = [self._given] if self._given is not None else [body.read() for body, _ in asked]
        for data in bodies:
            try:
                listed += self.adapter.parse_instruments(data)
            except WireError:
                continue  # it is no list
        known = InstrumentTable(self.adapter.venue, listed)
        names = dict.fromkeys(name for _, about in asked for name in about.symbols)
        rows = [known.by_key.get(name) or self.adapter.unlisted(name, known) for name in names]
        return InstrumentTable(self.adapter.venue, rows)

    def _answered(self, fetch: Fetch, body: Body) -> list[Event | Fetch]:
        data = body.read()
        refusal = self.adapter.refusal(200, data)
        if refusal is not None:
            self.pipeline.counters["fetches_refused"] += 1
            self._warn_once(f"{body.path.name}: {refusal.reason[:200]}")
            return []
        try:
            if body.ts is None:
                self._set_clock(max(map(_time_of, self._source.adapter.snapshot(fetch, data, LATE)), default=0))
            else:
                self._set_clock(body.ts)
            return self._source.adapter.snapshot(fetch, data, self._clock)
        except WireError as error:
            self.pipeline.counters["wire_errors"] += 1
            self._warn_once(f"unreadable answer skipped: {body.path.name}: {error}")
            return []

    def _set_clock(self, now: int) -> None:
        self._clock = self.output.now = max(self._clock, now)


def _time_of(event: Event | Fetch) -> int:
    """Return the venue's time (int ns), 0 where there is none."""
    if isinstance(event, Candle):
        return event.start + interval_ns(kind_of(event).partition(".")[2])
    return getattr(event, "ts_event", None) or 0
