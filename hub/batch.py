"""Turns pending messages into one pipeline of Redis commands. Pure; the connection is hub/publisher.py.

A batch first brings each touched key to its final state (SET or DEL), then logs and publishes message by message. So
whoever reads a key never finds it behind what was published.
"""

from collections.abc import Iterable, Sequence, Set
from typing import TypeAlias, cast

from msgspec import Struct

from hub.builder import ChannelState, MessageBuilder
from hub.config import HistorySettings, PublisherSettings
from hub.history import History, Sample, SeriesSpec, samples_of, series_of
from hub.instruments import Instrument
from hub.intervals import NS_PER_MS
from hub.keys import Channel, Keys
from hub.link import pack
from hub.model import Book, Candle, Message, Quote, Trade

__all__ = ["Batch", "BatchEncoder", "Item", "Renewal", "Withdrawal"]


class Withdrawal(Struct, frozen=True, gc=False):
    """The newest value of this channel is to go; `retired`: the channel too, nothing more is published there."""

    kind: str
    venue: str
    symbol: str
    retired: bool = False


class Renewal(Struct, frozen=True, gc=False):
    """Store this snapshot at the position of the last update."""

    snapshot: Book


Item: TypeAlias = Message | Withdrawal | Renewal


class Batch(Struct, frozen=True):
    """Commands ready to be sent. `core` can be sent again with the same effect; series are written only once: the
    `creations` of new ones, and `samples`."""

    items: list[Item]
    core: bytes
    core_count: int
    creations: list[bytes]
    samples: list[Sample]


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


class _Wire:
    """The constant parts of one channel's commands, and what its key holds."""

    __slots__ = ("announced", "delete", "newest", "publish", "series", "series_keys", "set", "set_tail", "xadd")

    def __init__(self, channel: ChannelState, log_length: int, ttl_s: int, specs: tuple[SeriesSpec, ...]) -> None:
        key = _bulk(channel.key.encode())
        self.set = b"*5\r\n$3\r\nSET\r\n" + key
        self.set_tail = b"$2\r\nEX\r\n" + _bulk(b"%d" % ttl_s)
        self.delete = b"*2\r\n$3\r\nDEL\r\n" + key
        self.publish = b"*3\r\n$7\r\nPUBLISH\r\n" + key
        self.xadd = b""
        if channel.event:
            log, length = _bulk(channel.log.encode()), _bulk(b"%d" % log_length)
            self.xadd = b"*8\r\n$4\r\nXADD\r\n" + log + b"$6\r\nMAXLEN\r\n$1\r\n~\r\n" + length
        self.series = specs
        self.series_keys: tuple[str, ...] = ()
        self.newest: bytes | None = None
        self.announced = False


class BatchEncoder:
    """Encodes the batches of one publisher and remembers what its keys hold."""

    def __init__(
        self, builder: MessageBuilder, history: History | None, publisher: PublisherSettings, series: HistorySettings
    ) -> None:
        self.builder = builder
        self.keys: Keys = builder.keys
        self.history = history
        self._settings, self._series = publisher, series
        self._wires: dict[ChannelState, _Wire] = {}
        self._quotes: dict[ChannelState, Quote] = {}
        self._instruments: dict[str, Instrument] = {}

    def know(self, rows: Iterable[Instrument]) -> None:
        """Remember instruments for the labels of their series."""
        self._instruments.update({row.symbol: row for row in rows})

    def encode(self, items: list[Item], ts_pub: int) -> Batch:
        """Give each message its position and encode the whole batch."""
        values: dict[_Wire, bytes | None] = {}
        events: list[bytes] = []
        fresh: list[ChannelState] = []
        samples: list[Sample] = []
        retired: dict[ChannelState, None] = {}
        count = 0
        builder, wires = self.builder, self._wires
        for item in items:
            if type(item) is Withdrawal or type(item) is Renewal:  # isinstance() of a Struct is slow
                channel = self._special(item, values, ts_pub)
                if type(item) is Withdrawal and item.retired:
                    wires[channel].announced = False
                    retired[channel] = None
                continue
            channel, position, payload = builder.build(item, ts_pub)  # type: ignore[arg-type]  # as tested
            wire = wires.get(channel) or self._wire_of(channel)
            if not wire.announced:
                wire.announced = True
                fresh.append(channel)
            bulk = b"$%d\r\n%b\r\n" % (len(payload), payload)
            if channel.event:
                entry = b"$%d\r\n%b\r\n$7\r\npayload\r\n" % (len(position), position.encode())
                events += (wire.xadd, entry, bulk, wire.publish, bulk)
                count += 2
                if not (type(item) is Book and item.action == "update"):
                    values[wire] = bulk
            else:
                values[wire] = bulk
                events += (wire.publish, bulk)
                count += 1
            if wire.series:
                if type(item) is Quote:
                    self._quotes[channel] = item
                else:
                    own = cast("Trade | Candle", item)  # nothing else has series
                    samples += samples_of(own, wire.series_keys, wire.series, ts_pub // NS_PER_MS)
        head, head_count = self._head(values, [channel for channel in fresh if wires[channel].announced])
        gone = [pack("SREM", self.keys.channels, each.name) for each in retired if not wires[each].announced]
        head, head_count = head + b"".join(gone), head_count + len(gone)
        return Batch(items, head + b"".join(events), head_count + count, self._creations(fresh), samples)

    def restore(self, withdrawn: Iterable[Withdrawal]) -> tuple[bytes, int]:
        """Encode what brings an empty Redis to this publisher's last state: newest values, channel names, series.

        Left out are values in `withdrawn`, which are about to go, and books: a new epoch begins with new snapshots.
        """
        for item in withdrawn:
            wire = self._wire_of(self.builder.named(item.kind, item.venue, item.symbol))
            wire.newest, wire.announced = None, wire.announced and not item.retired
        channels = [channel for channel, wire in self._wires.items() if wire.announced]
        values: dict[_Wire, bytes | None] = {
            wire: wire.newest for channel, wire in self._wires.items() if wire.newest is not None and not channel.book
        }
        head, count = self._head(values, channels)
        extra = self._creations(channels)
        return head + b"".join(extra), count + len(extra)

    def series(self, keys: Set[str]) -> list[bytes]:
        """Return the commands that make the series `keys` anew: somebody deleted them."""
        return self._creations(
            [channel for channel, wire in self._wires.items() if not keys.isdisjoint(wire.series_keys)]
        )

    def quote_samples(self) -> list[Sample]:
        """Return samples of the quotes that changed since the last call."""
        samples = []
        for channel, quote in self._quotes.items():
            ts_ms = quote.ts_recv // NS_PER_MS
            bid_key, ask_key = self._wires[channel].series_keys
            if quote.bid is not None:
                samples.append(Sample(bid_key, ts_ms, quote.bid))
            if quote.ask is not None:
                samples.append(Sample(ask_key, ts_ms, quote.ask))
        self._quotes.clear()
        return samples

    def upkeep(self, now_ms: int) -> list[bytes]:
        """Return the commands that renew the expiry of logs and series and trim what the server does not."""
        ttl = self._settings.last_value_ttl_s
        commands: list[bytes] = []
        for channel, wire in self._wires.items():
            if not wire.announced:
                continue
            if channel.event:
                commands.append(pack("EXPIRE", channel.log, ttl))
            if wire.newest is not None and (channel.book or channel.kind == "status"):
                # They hold for as long as nothing else is said: a quiet book is written anew after many days.
                commands.append(pack("EXPIRE", channel.key, ttl))
            for key, spec in zip(wire.series_keys, wire.series, strict=False):
                commands.append(pack("EXPIRE", key, max(ttl, spec.retention_s)))
                if self.history is not None:
                    commands += self.history.trim(key, spec, now_ms)
        return commands

    def _wire_of(self, channel: ChannelState) -> _Wire:
        wire = self._wires.get(channel)
        if wire is not None:
            return wire
        kind = channel.kind.partition(".")[0]
        settings = self._settings
        lengths = {"trade": settings.log_trades, "book": settings.log_books, "candle": settings.log_candles}
        specs: tuple[SeriesSpec, ...] = ()
        if self.history is not None:
            specs = series_of(channel.kind, self._series.tick_s, self._series.candle_s)
        wire = _Wire(channel, lengths.get(kind, settings.log_statuses), settings.last_value_ttl_s, specs)
        wire.series_keys = tuple(self.keys.series(channel.name, spec.field) for spec in specs)
        self._wires[channel] = wire
        return wire

    def _special(self, item: Withdrawal | Renewal, values: dict[_Wire, bytes | None], ts_pub: int) -> ChannelState:
        bulk = None
        if isinstance(item, Renewal):
            channel = self.builder.channel(item.snapshot)
            bulk = _bulk(self.builder.restate(channel, item.snapshot, ts_pub)[1])
        else:
            channel = self.builder.named(item.kind, item.venue, item.symbol)
        values[self._wire_of(channel)] = bulk
        return channel

    def _head(self, values: dict[_Wire, bytes | None], fresh: Sequence[ChannelState]) -> tuple[bytes, int]:
        parts: list[bytes] = []
        for wire, bulk in values.items():
            wire.newest = bulk
            parts += (wire.delete,) if bulk is None else (wire.set, bulk, wire.set_tail)
        for channel in fresh:
            parts += (pack("SADD", self.keys.channels, channel.name), pack("PUBLISH", self.keys.channels, channel.name))
        return b"".join(parts), len(values) + 2 * len(fresh)

    def _creations(self, channels: Iterable[ChannelState]) -> list[bytes]:
        if self.history is None:
            return []
        commands: list[bytes] = []
        for channel in channels:
            specs = self._wires[channel].series
            if specs:
                name = Channel(channel.kind, channel.venue, channel.symbol)
                commands += self.history.create(self.keys, name, specs, self._instruments.get(channel.symbol))
        return commands
