"""The venue's side of a protocol, spoken by the replay server: what a dialect is, and what it is given. No I/O here.

A dialect reads recorded frames, rewrites ids and times for laps after the first, keeps the state that REST answers
come from, and holds one `Conversation` per client. Sockets, pace and laps are feeds/replay's.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final, Protocol

from msgspec import Struct

__all__ = [
    "EVERYONE",
    "Answer",
    "Conversation",
    "Dialect",
    "Item",
    "Lap",
    "Reading",
    "Refused",
    "Rules",
    "Span",
    "Timeline",
    "noise",
]


#: The topic of frames that nobody can read: garbage comes to every client, as it came to the recorder.
EVERYONE: Final = "*"


class Rules(Struct, frozen=True, kw_only=True):
    """What the venue enforces. Counted here on purpose apart from the adapter's `Limits`: one checks the other.

    `messages_per_s` counts every frame a client sends, control frames included; `ping_s` is the pace of pings, and a
    client that has not answered one for three times as long is cut. `rest_weight` is per minute.
    """

    messages_per_s: int
    streams: int
    ping_s: float
    rest_weight: int
    message_bytes: int = 256 * 1024


class Refused(Exception):
    """The venue turns a client away: `status` while it connects, afterwards a close frame with `code`."""

    def __init__(self, reason: str, status: int = 400, code: int = 1008) -> None:
        super().__init__(reason)
        self.reason, self.status, self.code = reason, status, code


class Span(Struct):
    """The smallest and largest number seen in one id space, and how far apart two laps leave it (`hole`)."""

    low: int
    high: int
    hole: int = 0

    @property
    def length(self) -> int:
        return self.high - self.low + 1 + self.hole


class Reading(Struct, frozen=True, gc=False):
    """What a recorded frame is. `topics`: the names under which clients get it; `ids`: (space, number) it uses.

    `start:end` cuts the part of the payload that the venue wraps differently per client; `ts_event` int ns or None.
    """

    topics: tuple[str, ...]
    symbol: str
    kind: str
    ts_event: int | None
    ids: tuple[tuple[str, int], ...]
    start: int
    end: int


def noise(payload: bytes) -> Reading:
    """Return the reading of a frame that cannot be read."""
    return Reading((EVERYONE,), "", "", None, (), 0, len(payload))


class Item(Struct, frozen=True, gc=False):
    """A frame on its track: `at` int ns after the track's start; `binary` where it was not recorded as text."""

    at: int
    payload: bytes
    reading: Reading
    binary: bool = False

    @property
    def data(self) -> bytes:
        return self.payload[self.reading.start : self.reading.end]


class Lap(Struct, frozen=True):
    """How recorded ids and times are told in one lap. `exact`: as recorded, byte for byte.

    Times: `base` + (recorded + `offset` - `origin`) / `scale`, all int ns; ids: recorded + `number` spans of the space.
    """

    number: int
    exact: bool
    origin: int
    base: int
    offset: int
    scale: float
    spans: Mapping[str, Span]

    def time(self, ts: int) -> int:
        """Return a recorded time (int ns) as it is told in this lap."""
        elapsed = ts + self.offset - self.origin
        return self.base + (elapsed if self.scale == 1 else int(elapsed / self.scale))

    def id(self, space: str, number: int) -> int:
        """Return a recorded id of `space` as it is told in this lap."""
        span = self.spans.get(space)
        return number if span is None else number + self.number * span.length


class Timeline(Protocol):
    """A track as a dialect sees it."""

    @property
    def lap(self) -> Lap: ...

    def now(self) -> int:
        """Return the venue's time at this moment of the track, int ns."""
        ...


class Answer(Struct, frozen=True):
    """A REST answer."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = {}


class Conversation(ABC):
    """One client's connection: what it subscribed to and how it wants its frames. Frames out are text or, where
    `binary` is set, binary."""

    binary: bool = False

    def __init__(self) -> None:
        self.topics: dict[str, None] = {}

    @abstractmethod
    def receive(self, message: bytes, binary: bool) -> list[bytes]:
        """Read what the client sent and return the answers; Refused cuts the connection."""

    @abstractmethod
    def render(self, topic: str, item: Item, data: bytes) -> bytes:
        """Return the frame that carries `data` of `item` to this client."""

    def asked(self, headers: Mapping[str, str]) -> None:  # noqa: B027 - to most venues all clients are the same
        """Read the headers (names in lower case) of the request that opens the connection."""

    def opened(self) -> list[bytes]:
        """Return the frames that greet a new connection."""
        return []

    def closed(self) -> None:  # noqa: B027 - most venues keep no account of them
        """Note that the connection is gone."""

    def tick(self) -> list[bytes]:
        """Return heartbeats in the venue's own form; called at the pace of pings. Refused cuts the connection."""
        return []

    def shutdown(self, ts: int) -> list[bytes]:
        """Return the venue's notice that it will cut this connection (`ts` int ns)."""
        return []


class Dialect(ABC):
    """One venue's server side. One instance serves one replay server."""

    venue: ClassVar[str]
    rules: ClassVar[Rules]
    holes: ClassVar[Mapping[str, int]] = {}
    """last word of an id space -> ids left out between two laps"""

    def __init__(self, clock: Callable[[], int]) -> None:
        """`clock` tells the venue's time, int ns."""
        self.clock = clock
        self.instruments: bytes | None = None
        """body of the venue's list of instruments; None where nobody has one"""

    @abstractmethod
    def read(self, payload: bytes, binary: bool) -> Reading | None:
        """Read one recorded frame; None for what no client would get again (acks, errors), `noise` for garbage."""

    def sent(self, payload: bytes) -> None:  # noqa: B027 - most venues' frames name themselves
        """Note what the recorder sent, or the URL it opened: it may name what later frames do not."""

    @abstractmethod
    def add_body(self, resource: str, symbol: str, url: str, data: bytes) -> tuple[tuple[str, int], ...]:
        """Take a recorded REST body, and return the ids in it that belong to the stream's spaces."""

    @abstractmethod
    def attach(self, symbols: Sequence[str], timeline: Timeline) -> None:
        """Learn which track plays `symbols`."""

    @abstractmethod
    def begin(self, symbols: Sequence[str]) -> None:
        """A new lap of the track of `symbols` begins: forget what the last one built."""

    @abstractmethod
    def play(self, item: Item, lap: Lap) -> list[bytes]:
        """Note that `item` happens now; return what its data is in this lap, usually one payload."""

    @abstractmethod
    def conversation(self, path: str, query: Mapping[str, str]) -> Conversation:
        """Accept a connection; Refused where the venue would not."""

    @abstractmethod
    def rest(self, path: str, query: Mapping[str, str]) -> Answer:
        """Answer a GET request."""

    def post(self, path: str, body: bytes) -> Answer:
        """Answer a POST request."""
        return Answer(b"", 405)

    @abstractmethod
    def weight(self, path: str, query: Mapping[str, str]) -> int:
        """Return what the request costs, in the venue's weights."""

    @abstractmethod
    def limited(self, status: int, retry_after_s: int) -> Answer:
        """Return the answer to a client that asked too much (429), or is banned (418)."""

    def used(self, weight: int) -> dict[str, str]:
        """Return the headers that tell a client its weight of this minute."""
        return {}
