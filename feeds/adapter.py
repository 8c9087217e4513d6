"""What a venue's adapter is: bytes in, events out, no I/O.

An adapter never reads a clock, opens a socket or touches Redis. One instance serves one connection; reconnecting makes
a new one. What it needs from REST it asks for with a `Fetch`, and is given the body in `snapshot`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeAlias
from urllib.parse import urlsplit

from msgspec import Struct

from hub.book import OrderBook
from hub.instruments import Instrument
from hub.model import Candle, Level, Mark, Quote, Ticker, Trade

__all__ = [
    "Acked",
    "Adapter",
    "BookGap",
    "BookUpdate",
    "Event",
    "Fetch",
    "Limits",
    "LoggedIn",
    "Peek",
    "Refusal",
    "Refused",
    "Revised",
    "Rotate",
    "Send",
    "Skipped",
    "Subscription",
    "TradesLost",
]


class Limits(Struct, frozen=True, kw_only=True):
    """A venue's rules, kept by generic machinery.

    Weights are counted as the venue counts them; `rest_weight` per `rest_window_s`. `lifetime_s` is when the venue
    cuts a connection by force; the hub replaces it before. `heartbeat_s`: the longest silence on a healthy socket,
    pings included; `ping_s`: seconds between application heartbeats. `subscribe_batch`: channels a subscribe frame.
    `reconnect_s`: the least wait before a new connection, where the venue holds the slot of a dead one.
    `ban_statuses`: HTTP statuses by which the venue bans an address, for `ban_s` where it names no time.
    `symbols_per_connection`: instruments on one connection, where the venue counts books and not channels; 0: any.
    `requests`: frames but heartbeats that a connection may send in any `requests_window_s`; 0: no limit but the pace.
    """

    streams_per_connection: int
    messages_per_s: float
    connects: int
    connects_window_s: float
    rest_weight: int
    rest_window_s: float
    lifetime_s: float
    heartbeat_s: float
    ping_s: float = 20.0
    subscribe_batch: int = 200
    max_frame_bytes: int = 16 * 1024 * 1024
    rest_timeout_s: float = 10.0
    reconnect_s: float = 0.0
    symbols_per_connection: int = 0
    requests: int = 0
    requests_window_s: float = 3600.0
    ban_statuses: frozenset[int] = frozenset({418})
    ban_s: float = 300.0


class Subscription(Struct, frozen=True, gc=False):
    """One canonical kind of one instrument."""

    kind: str
    instrument: Instrument


class Fetch(Struct, frozen=True, gc=False, kw_only=True):
    """A REST request that the adapter needs answered.

    `resource` is the adapter's name for it, `weight` what the venue charges. `path` is below `rest_url`, or a whole URL
    where the venue has more than one host. With `body` it is a POST of JSON. `interval` and `start` (int ns) tell
    candles apart. `instruments`: those of a request that is about several.
    """

    resource: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    weight: int = 1
    instrument: Instrument | None = None
    interval: str = ""
    start: int = 0
    body: bytes | None = None
    instruments: tuple[Instrument, ...] = ()


class Refusal(Struct, frozen=True, gc=False):
    """An answer of REST that is none, whatever its HTTP status.

    With `pause_s` the venue asks for that much silence; without it, it will not answer this request later either:
    `venue_wide` says that it will not answer any (a wrong key), else that it has no answer to this one.
    """

    reason: str
    pause_s: float | None = None
    venue_wide: bool = False


class BookUpdate(Struct, frozen=True, gc=False):
    """Levels of one book: a snapshot replaces, an update sets absolute sizes (0 removes). Best first.

    `bids_complete`/`asks_complete`: a snapshot holds all levels the venue has on that side, so none are unknown.
    `then`: updates that follow a snapshot and are published as part of it, because the book was at them already.
    `checksum` is what the venue says of the book after this update; `texts` are the venue's own digits of `bids` and
    `asks` in the form its checksum takes them, given by venues whose checksum is made of them. `window`: a snapshot
    of a subscription of just so many levels a side, where that differs from the adapter's `book_window`.
    """

    instrument: Instrument
    snapshot: bool
    bids: list[Level]
    asks: list[Level]
    ts_event: int | None
    ts_recv: int
    bids_complete: bool = True
    asks_complete: bool = True
    then: tuple["BookUpdate", ...] = ()
    checksum: int | None = None
    texts: tuple[list[str], list[str]] | None = None
    window: int | None = None


class BookGap(Struct, frozen=True, gc=False):
    """The book of this instrument lost messages and is invalid from now on."""

    instrument: Instrument
    reason: str
    ts_recv: int


class TradesLost(Struct, frozen=True, gc=False):
    """The trades numbered `first` to `last` (the venue's numbers, not its ids) of `symbol` never came.

    Told right before the trade that shows it, whose time is `ts_event` (int ns).
    """

    symbol: str
    first: int
    last: int
    ts_event: int
    ts_recv: int


class Acked(Struct, frozen=True, gc=False):
    """The venue accepted these of its channels."""

    channels: tuple[str, ...]


class Refused(Struct, frozen=True, gc=False):
    """The venue refused these of its channels; empty: it refused a request that cannot be matched."""

    channels: tuple[str, ...]
    reason: str


class Rotate(Struct, frozen=True, gc=False):
    """The venue announced that it will cut this connection: replace it now."""

    reason: str


class LoggedIn(Struct, frozen=True, gc=False):
    """The venue accepted the login: subscribing may begin."""


class Send(Struct, frozen=True, gc=False):
    """The venue asked for an answer: send this frame now."""

    frame: bytes


class Revised(Struct, frozen=True, gc=False):
    """The venue corrected or cancelled a trade that it told before. `ts_event` int ns, None where it gives none."""

    instrument: Instrument
    reason: str
    ts_event: int | None
    ts_recv: int


class Skipped(Struct, frozen=True, gc=False):
    """A message that carries nothing for the hub; `reason` is one of few words, for a counter."""

    reason: str


class Peek(Struct, frozen=True, gc=False):
    """What a recorded frame is about: the venue's key of the instrument (Instrument.key), the canonical kind, the
    venue's time (int ns or None)."""

    key: str
    kind: str
    ts_event: int | None


Event: TypeAlias = (
    Trade | TradesLost | Quote | Ticker | Mark | Candle | BookUpdate | BookGap
    | Revised | Acked | Refused | Rotate | LoggedIn | Send | Skipped
)  # fmt: skip


class Adapter(ABC):
    """Base of all adapters; see STYLE in ADD_VENUE.md for the order of a venue's file."""

    venue: ClassVar[str]
    endpoints: ClassVar[Mapping[str, str]]
    """name -> WebSocket URL; most venues have one, named """ ""
    rest_url: ClassVar[str]
    limits: ClassVar[Limits]
    channels: ClassVar[Mapping[str, str]]
    """canonical kind -> the venue's channel"""
    default_symbols: ClassVar[tuple[str, ...]] = ()
    """what a feed runs when no symbols are configured"""
    candle_intervals: ClassVar[frozenset[str]] = frozenset()
    """intervals the venue's REST has candles for"""
    candles_per_fetch: ClassVar[int] = 1000
    """the most candles that one `candles_fetch` brings"""
    candle_reach: ClassVar[int] = 0
    """the venue tells just so many of its newest candles of an interval; 0: all it has"""
    trade_ids_contiguous: bool = False
    """the venue numbers a symbol's trades without holes; an instance that reads a form with holes says so"""
    trade_ids_unique: ClassVar[bool] = True
    """no two trades of a symbol have one id; where they may, the adapter itself removes what is told twice"""
    quotes_from_book: ClassVar[bool] = False
    """the venue's own best prices lag behind its book: they are quotes only until the first snapshot"""
    checksum: "ClassVar[staticmethod[[OrderBook], int] | None]" = None
    """what `BookUpdate.checksum` is compared with after the update was applied"""
    book_window: ClassVar[int | None] = None
    """the venue keeps just so many levels a side and sends those that move into this window again"""
    credentials_env: ClassVar[tuple[str, ...]] = ()
    """environment variables with the keys the venue wants, in the order of `credentials`"""
    polled: ClassVar[bool] = False
    """the venue has no stream: what is due is asked for (feeds/poller.py)"""

    def __init__(
        self,
        instruments: Sequence[Instrument],
        book_levels: int = 1000,
        endpoint: str = "",
        credentials: Sequence[str] = (),
    ) -> None:
        self.book_levels = book_levels
        self.endpoint = endpoint
        """where the next frames come from; a recording may hold several connections one after the other"""
        self.credentials = tuple(credentials)

    @classmethod
    def rest_headers(cls, credentials: Sequence[str]) -> dict[str, str]:
        """Return the headers that every REST request carries."""
        return {}

    @classmethod
    def rest_query(cls, credentials: Sequence[str]) -> dict[str, str]:
        """Return the query parameters that every REST request carries; they stand in no URL that is kept or shown."""
        return {}

    @classmethod
    def refusal(cls, status: int, body: bytes) -> Refusal | None:
        """Recognise an answer that is none; None where `body` is what was asked for, or `status` says it all."""
        return None

    @classmethod
    def endpoint_of(cls, kind: str, instrument: Instrument) -> str:
        """Return the name of the endpoint that serves `kind` of `instrument`."""
        return next(iter(cls.endpoints))

    @classmethod
    def endpoint_at(cls, url: str) -> str:
        """Return the name of the endpoint that a recorded connection's URL belongs to; the first where none fits."""
        path = urlsplit(url).path
        first = next(iter(cls.endpoints))
        return next((name for name, known in cls.endpoints.items() if urlsplit(known).path == path), first)

    @classmethod
    def may_cross(cls, instrument: Instrument) -> bool:
        """Tell whether the book of `instrument` may be crossed, as in a call auction, without being wrong."""
        return False

    @classmethod
    @abstractmethod
    def instruments_fetches(cls) -> list[Fetch]:
        """Ask for the lists of instruments; several where the venue divides them."""

    @classmethod
    def on_list(cls, instrument: Instrument) -> bool:
        """Tell whether the lists of instruments would have it: what they never had is not delisted by them."""
        return True

    @classmethod
    def next_page(cls, fetch: Fetch, body: bytes) -> Fetch | None:
        """Ask for what follows `body` in a list of instruments that comes in pages; WireError where it is none."""
        return None

    @classmethod
    @abstractmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        """Read one answer to `instruments_fetches`, which one is told by its content; WireError where it is none."""

    @classmethod
    @abstractmethod
    def resource_of(cls, url: str) -> tuple[str, str]:
        """Return (resource, venue symbol or "") of a REST URL: how recorded bodies are matched to a `Fetch`.

        Where the request was a POST, its body follows the URL after a `#`.
        """

    @classmethod
    @abstractmethod
    def peek(cls, payload: bytes, endpoint: str = "") -> list[Peek]:
        """Say what a frame is about without any state: recorded sessions need not come with a list of instruments.

        [] for what is no data, unreadable frames included.
        """

    @classmethod
    def listed_key(cls, key: str) -> str:
        """Return the key that the lists of instruments have for what older frames call `key`."""
        return key

    def login(self) -> list[bytes]:
        """Return the frames that log in, sent before anything else; subscribing waits for `LoggedIn`. []: no login."""
        return []

    def learn(self, instruments: Sequence[Instrument]) -> bool:
        """Know `instruments` from now on, besides those given at the start; False where that takes a new connection."""
        return False

    @abstractmethod
    def subscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        """Return the frames that subscribe; each is one message to the venue."""

    @abstractmethod
    def unsubscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        """Return the frames that unsubscribe."""

    @abstractmethod
    def venue_channels(self, subs: Sequence[Subscription]) -> list[str]:
        """Return the venue's channel names of these, as `Acked` and `Refused` name them."""

    @abstractmethod
    def receive(self, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        """Read one frame. WireError where it cannot be read: it costs that frame."""

    @abstractmethod
    def snapshot(self, fetch: Fetch, body: bytes, ts_recv: int) -> list[Event | Fetch]:
        """Read the answer to a `Fetch`; WireError where it cannot be read."""

    @abstractmethod
    def resync(self, instrument: Instrument) -> list[bytes | Fetch]:
        """Return what rebuilds the book of `instrument`: frames to send, or fetches."""

    def refresh(self, instrument: Instrument) -> list[bytes | Fetch]:
        """Return what gets a newer snapshot of a book that stays live meanwhile: it left the range it is known in."""
        return self.resync(instrument)

    @classmethod
    def candles_fetch(cls, instrument: Instrument, interval: str, start: int, count: int, now: int = 0) -> Fetch | None:
        """Ask for `count` candles from `start` (int ns); None where the venue has none of this interval.

        `now` (int ns; 0: recent ones are meant) is for venues that keep old ones elsewhere.
        """
        return None

    def ping(self) -> bytes | None:
        """Return an application heartbeat frame, None where the venue needs none."""
        return None
