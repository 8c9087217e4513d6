"""Gives messages their position and turns them into bytes: the one place where ids are made.

Used by the feeds' publisher and by `normalize`, so that both print the same. No Redis, no clock.
"""

from msgspec.structs import force_setattr

from hub.keys import Keys, channel_name
from hub.model import Message, encode, is_event, kind_of

__all__ = ["ChannelState", "MessageBuilder"]


class ChannelState:
    """What a publisher knows of one of its channels."""

    __slots__ = ("book", "event", "key", "kind", "log", "name", "seq", "symbol", "venue")

    def __init__(self, keys: Keys, kind: str, venue: str, symbol: str) -> None:
        self.kind, self.venue, self.symbol = kind, venue, symbol
        self.name = channel_name(kind, venue, symbol)
        self.event = is_event(kind)
        self.book = kind == "book"
        self.key = keys.newest(self.name)
        self.log = keys.log(self.name)
        self.seq = 0


class MessageBuilder:
    """Numbers the messages of one publisher within an epoch.

    Ids are `"<epoch>-<seq>"`; in each channel `seq` counts 1, 2, 3 … within the epoch.
    """

    def __init__(self, keys: Keys, epoch: int) -> None:
        self.keys = keys
        self.epoch, self._prefix = epoch, f"{epoch}-"
        self.channels: dict[str, ChannelState] = {}
        self._by_type: dict[type[Message], dict[str, ChannelState]] = {}

    def start_epoch(self, epoch: int) -> None:
        """Begin a new epoch: every channel counts from 1 again."""
        if epoch <= self.epoch:
            raise ValueError(f"an epoch must grow: {epoch} after {self.epoch}")
        self.epoch, self._prefix = epoch, f"{epoch}-"
        for channel in self.channels.values():
            channel.seq = 0

    def channel(self, message: Message) -> ChannelState:
        """Return the channel `message` belongs to, made on first use."""
        try:
            return self._by_type[type(message)][message.symbol]
        except KeyError:
            state = self.named(kind_of(message), message.venue, message.symbol)
            self._by_type.setdefault(type(message), {})[message.symbol] = state
            return state

    def named(self, kind: str, venue: str, symbol: str) -> ChannelState:
        """Return the channel of these names, made on first use."""
        name = channel_name(kind, venue, symbol)
        if name not in self.channels:
            self.channels[name] = ChannelState(self.keys, kind, venue, symbol)
        return self.channels[name]

    def build(self, message: Message, ts_pub: int) -> tuple[ChannelState, str, bytes]:
        """Give `message` the next position in its channel; returns the channel, the id and the bytes.

        Messages are frozen for everyone else: nobody sees one before it is stamped here.
        """
        try:
            channel = self._by_type[type(message)][message.symbol]
        except KeyError:
            channel = self.channel(message)
        channel.seq = seq = channel.seq + 1
        position = f"{self._prefix}{seq}"
        force_setattr(message, "id", position)
        force_setattr(message, "ts_pub", ts_pub)
        return channel, position, encode(message)

    def restate(self, channel: ChannelState, message: Message, ts_pub: int) -> tuple[str, bytes]:
        """As `build`, at the channel's current position: for a snapshot that repeats what was published."""
        position = f"{self._prefix}{channel.seq}"
        force_setattr(message, "id", position)
        force_setattr(message, "ts_pub", ts_pub)
        return position, encode(message)
