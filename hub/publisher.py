"""A venue's way into Redis: batches over the lean link, outages, epochs.

Per event-loop turn one batch goes out, with at most one on its way; what comes meanwhile is the next batch. So an idle
feed publishes at once and a busy one in big batches.

While Redis is away messages are held: of state kinds the newest, of event kinds a bounded number. When it is back:
- same run, nothing dropped: the batch that was not confirmed is sent again with the same ids, then what was held;
- another run, or events were dropped: a new epoch. Newest values and series are made again, every book begins with a
  snapshot, and the venue's status says so.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable

from redis.exceptions import RedisError

from hub.backlog import compacted
from hub.batch import Batch, BatchEncoder, Item, Renewal, Withdrawal
from hub.builder import MessageBuilder
from hub.config import HistorySettings, PublisherSettings
from hub.connect import AnyLink, connect
from hub.errors import LeaseHeld, LeaseLost, RedisUnavailable
from hub.history import History, Sample, SeriesWriter
from hub.instruments import Instrument
from hub.keys import Keys
from hub.latency import Buckets, Latencies
from hub.lease import Lease
from hub.link import RedisReplyError, pack
from hub.model import Book, Message

__all__ = ["Publisher"]

log = logging.getLogger(__name__)

BATCH_MAX = 2000
UPKEEP_S = 600.0
RETRY_CAP_S = 2.0
REFUSED_PAUSE_S = 1.0
AGAIN_PAUSE_S = 0.2


class Publisher:
    """Implements feeds.books.Sink over a real Redis.

    `on_new_epoch(reason)` is called when ids start again; it must publish a snapshot of every live book.
    """

    def __init__(
        self,
        url: str,
        keys: Keys,
        venue: str,
        lease: Lease,
        epoch: int,
        history: History | None,
        settings: PublisherSettings,
        series: HistorySettings,
        on_new_epoch: Callable[[str], None],
    ) -> None:
        self.url, self.keys, self.venue, self.lease = url, keys, venue, lease
        self.builder = MessageBuilder(keys, epoch)
        self.encoder = BatchEncoder(self.builder, history, settings, series)
        self.on_new_epoch = on_new_epoch
        self.counters = {
            "published": 0, "batches": 0, "events_dropped": 0, "redis_errors": 0, "redis_reconnects": 0,
            "samples_refused": 0,
        }  # fmt: skip
        self.latencies = Latencies()
        self._settings = settings
        self._pending: list[Item] = []
        self._unconfirmed: Batch | None = None
        self._resent = False
        self._lost_events = False
        self._series = SeriesWriter(history) if history is not None else None
        self._series_count = 0
        self._bad_keys: set[str] = set()
        self._link: AnyLink | None = None
        self._busy = True  # no flush may start: one is scheduled, on its way, or Redis is away
        self._run_id = ""
        self._fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle = asyncio.Event()
        self._series_due = 0.0
        self._upkeep_due = 0.0
        self._series_ms = series.quote_sample_ms

    @property
    def epoch(self) -> int:
        return self.builder.epoch

    # feeds.books.Sink

    def publish(self, message: Message) -> None:
        self._put(message)

    def renew(self, snapshot: Book) -> None:
        self._put(Renewal(snapshot))

    def withdraw(self, kind: str, symbol: str) -> None:
        self._put(Withdrawal(kind, self.venue, symbol))

    def retire(self, kind: str, symbol: str) -> None:
        """Take a channel away: its newest value, and its name from the list of channels."""
        self._put(Withdrawal(kind, self.venue, symbol, True))

    def retire_all(self, symbol: str) -> None:
        """Take away every channel of `symbol`."""
        for channel in [each for each in self.builder.channels.values() if each.symbol == symbol]:
            self.retire(channel.kind, symbol)

    def _put(self, item: Item) -> None:
        pending = self._pending
        pending.append(item)
        if not self._busy:
            self._busy = True
            self._idle.clear()
            asyncio.get_running_loop().call_soon(self._flush)
        elif len(pending) > 2 * self._settings.buffer:
            self._compact()

    def _compact(self) -> None:
        """Bound what is held: the newest of each state channel, the last events."""
        self._pending, dropped = compacted(self._pending, self._settings.buffer)
        if dropped:
            self.counters["events_dropped"] += dropped
            self._lost_events = True

    def know(self, rows: Iterable[Instrument]) -> None:
        self.encoder.know(rows)

    # hub.metrics.PublisherFigures

    @property
    def waiting(self) -> int:
        return len(self._pending)

    def histograms(self) -> Iterable[tuple[str, str, Buckets]]:
        return self.latencies.histograms()

    # batches

    def _flush(self) -> None:
        """Send the next batch. It runs in callbacks, where an exception would be logged and publishing just end."""
        try:
            self._send_batch()
        except Exception as error:
            self._fail(error)

    def _send_batch(self) -> None:
        link = self._link
        if link is None:
            return
        if not self._pending and not (self._series is not None and self._series.again):
            self._busy = False
            self._idle.set()
            return
        items, self._pending = self._pending[:BATCH_MAX], self._pending[BATCH_MAX:]
        batch = self.encoder.encode(items, time.time_ns())
        self.counters["published"] += len(items)
        self.counters["batches"] += 1
        self.latencies.sent(items, time.time_ns())
        self._unconfirmed, self._resent = batch, False
        upkeep, samples = self._periodic()
        commands = [*batch.creations, *upkeep]
        if self._series is not None:
            writes = self._series.commands(batch.samples + samples)
            self._series_count = len(writes)
            commands += writes
        link.send(batch.core + b"".join(commands), batch.core_count + len(commands), self._confirmed)

    def _periodic(self) -> tuple[list[bytes], list[Sample]]:
        """Return what is due besides the batch: commands, and samples of quotes."""
        again = self._series.again if self._series is not None else None
        commands = self.encoder.series(again) if again else []
        now = time.monotonic()
        if now < self._series_due:
            return commands, []
        self._series_due = now + self._series_ms / 1000
        if now >= self._upkeep_due:
            # The first time soon: expiries must not wait for a feed that lives ten minutes.
            self._upkeep_due = now + (UPKEEP_S if self._upkeep_due else 5.0)
            commands += self.encoder.upkeep(time.time_ns() // 1_000_000)
            self._bad_keys.clear()
        return commands, self.encoder.quote_samples()

    def _confirmed(self, outcome: list[object] | ConnectionError) -> None:
        if isinstance(outcome, ConnectionError):
            if self._series is not None:
                self._series.done()
            return  # run() sees the closed link and sends the batch again
        self.latencies.confirmed(time.time_ns())
        batch, self._unconfirmed = self._unconfirmed, None
        kinds = set(map(type, outcome))
        if batch is not None and (RedisReplyError in kinds or list in kinds):
            self._errors(outcome[: batch.core_count], events=True)
            split = len(outcome) - self._series_count
            self._errors(outcome[batch.core_count : split], events=False)
            self._refused(outcome[split:])
        elif self._series is not None:
            self._series.done()
        if self._lost_events:
            # Redis refused events: only a new epoch can say so, and run() begins one after a reconnect.
            self._busy = True
            if self._link is not None:
                self._link.close()
            return
        self._flush()

    def _refused(self, written: list[object]) -> None:
        """Report samples that Redis did not take, each key once until the next upkeep."""
        for sample, reason in self._series.confirmed(written) if self._series is not None else ():
            self.counters["samples_refused"] += 1
            if sample.key not in self._bad_keys:
                self._bad_keys.add(sample.key)
                log.warning("redis refused a sample key=%s ts_ms=%d error=%s", sample.key, sample.ts_ms, reason)

    def _errors(self, replies: list[object], *, events: bool) -> None:
        """Judge error replies: a foreign epoch ends us, a series that is already there is no error. `events`: they
        answer commands that carry messages, so that some may be lost."""
        for text in (str(reply) for reply in replies if type(reply) is RedisReplyError):
            if "equal or smaller" in text:
                if not self._resent:
                    self._fail(LeaseLost(self.venue, "a log holds a larger epoch: another publisher took over"))
                continue
            if "key already exists" in text:
                continue
            self.counters["redis_errors"] += 1
            log.warning("redis refused a command venue=%s error=%s", self.venue, text)
            if events and text.startswith(("OOM", "MISCONF", "READONLY", "WRONGTYPE")):
                self._lost_events = True

    def _fail(self, error: Exception) -> None:
        self._busy = True
        if not self._fatal.done():
            self._fatal.set_exception(error)

    # life

    async def run(self) -> None:
        """Publish until cancelled. Raises LeaseLost when another publisher has the venue."""
        while True:
            link = await self._connect()
            try:
                await self._resume(link)
                self._link = link
                self._flush()
                await asyncio.wait({link.closed, self._fatal}, return_when=asyncio.FIRST_COMPLETED)
                if self._fatal.done():
                    self._fatal.result()
            except LeaseHeld as error:
                raise LeaseLost(self.venue, str(error)) from error
            except (ConnectionError, RedisReplyError, RedisError, OSError) as error:
                log.warning("redis went away again venue=%s reason=%s", self.venue, error)
                await asyncio.sleep(AGAIN_PAUSE_S)
            finally:
                self._link, self._busy = None, True
                link.close()
            self.counters["redis_reconnects"] += 1
            log.warning("redis connection lost venue=%s held=%d", self.venue, len(self._pending))
            if self._lost_events:
                await asyncio.sleep(REFUSED_PAUSE_S)

    async def _connect(self) -> AnyLink:
        delay = 0.05
        while True:
            try:
                return await connect(self.url, name=f"tickwire-feed-{self.venue}")
            except RedisUnavailable as error:
                log.warning("%s; trying again", error)
                await asyncio.sleep(random.uniform(delay / 2, delay))
                delay = min(RETRY_CAP_S, delay * 2)

    async def _resume(self, link: AnyLink) -> None:
        """Bring Redis and ourselves together again before anything new is sent."""
        info, *_ = await link.call([pack("INFO", "server")])
        if isinstance(info, RedisReplyError):
            raise info
        run_id = _field(info, "run_id")
        first, same = not self._run_id, run_id == self._run_id
        await self.lease.confirm()
        if same and self._unconfirmed is not None:
            # Series are left out: adding a size twice would be wrong, and a missing sample is not.
            self._resent = True
            await self._send(link, self._unconfirmed.core, self._unconfirmed.core_count)
            self._unconfirmed = None
        if not first and (self._lost_events or not same):
            reason = "events were dropped while Redis was away" if same else "Redis came back as another run"
            await self._begin_epoch(link, reason)
        # Only now: a link that breaks on the way here must find the same differences again.
        self._run_id = run_id

    async def _begin_epoch(self, link: AnyLink, reason: str) -> None:
        # Until all of this is done, a link that breaks again must lead back here.
        self._lost_events = True
        self.builder.start_epoch(await self.lease.acquire(at_least=self.builder.epoch + 1, wait_s=0))
        unconfirmed = self._unconfirmed.items if self._unconfirmed is not None else []
        waiting = (item for item in (*unconfirmed, *self._pending) if isinstance(item, Withdrawal))
        await self._send(link, *self.encoder.restore(waiting))
        # No await from here on: nothing may come between what was held and the snapshots. Book updates are in these,
        # and a renewal would repeat one of the old epoch.
        self._pending = [item for item in (*unconfirmed, *self._pending) if not isinstance(item, Book | Renewal)]
        self._unconfirmed, self._lost_events = None, False
        self.on_new_epoch(reason)
        log.warning("new epoch venue=%s epoch=%d reason=%s", self.venue, self.builder.epoch, reason)

    async def _send(self, link: AnyLink, data: bytes, count: int) -> None:
        if not count:
            return
        future: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()

        def done(outcome: list[object] | ConnectionError) -> None:
            if isinstance(outcome, ConnectionError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        link.send(data, count, done)
        self._errors(await future, events=True)

    async def drain(self, timeout_s: float = 2.0) -> bool:
        """Wait until everything given so far is confirmed; False when `timeout_s` was not enough."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._pending or self._unconfirmed is not None:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            return False
        return True


def _field(info: object, name: str) -> str:
    """Return a field of INFO; of several nodes' all values."""
    text = info.decode() if isinstance(info, bytes) else str(info)
    pairs = (line.partition(":") for line in text.splitlines())
    return ",".join(sorted(value.strip() for key, _, value in pairs if key == name))
