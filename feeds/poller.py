"""What a venue without a stream is: an adapter whose every event comes from an answer to a request.

It says what there is to ask (`jobs`), and reads the answers (`snapshot`). When a request is due is feeds/schedule.py's,
who asks feeds/polled.py's. Like every adapter it does no I/O.
"""

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Self

from msgspec import Struct
from msgspec.structs import replace

from feeds.adapter import Adapter, Event, Fetch, Limits, Peek, Subscription
from feeds.quota import Plan
from feeds.schedule import Job
from hub.errors import ConfigError, UnknownInstrument
from hub.instruments import Instrument, InstrumentTable

__all__ = ["Asked", "Poller", "again", "batches", "limits_of"]


class Asked(Struct, frozen=True):
    """What a recorded URL asked for: the adapter's resource, the venue's symbols, the candles' interval."""

    resource: str
    symbols: tuple[str, ...] = ()
    interval: str = ""


def limits_of(plan: Plan) -> Limits:
    """Return a plan's short window as limits; the rest of them is about streams, of which there are none."""
    return Limits(
        streams_per_connection=1, messages_per_s=1, connects=1, connects_window_s=1, rest_weight=plan.calls,
        rest_window_s=plan.window_s, lifetime_s=float("inf"), heartbeat_s=60, rest_timeout_s=20,
    )  # fmt: skip


class Poller(Adapter):
    """Base of all pollers. An instance reads the answers of one feed."""

    polled = True
    endpoints: ClassVar[dict[str, str]] = {"": ""}
    channels: ClassVar[dict[str, str]] = {}
    """canonical kind -> the resource it comes from"""
    plans: ClassVar[dict[str, Plan]]
    """name in `venues.<venue>.plan` -> plan; the first is the default"""
    plan: ClassVar[Plan]
    period_s: ClassVar[float] = 60.0
    """between two polls of one price, where the plan gives that much"""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "plans" in cls.__dict__:
            cls._take(next(iter(cls.plans.values())))

    @classmethod
    def _take(cls, plan: Plan) -> None:
        cls.plan, cls.limits, cls.credentials_env = plan, limits_of(plan), plan.credentials_env
        cls.rest_url = plan.rest_url or cls.rest_url

    @classmethod
    def on(cls, plan: str) -> type[Self]:
        """Return this poller under another of its plans; ConfigError naming those there are."""
        if not plan:
            return cls
        if plan not in cls.plans:
            known = ", ".join(cls.plans)
            raise ConfigError(f"venues.{cls.venue}.plan = {plan!r} does not exist; known: {known}")
        made: type[Self] = type(cls.__name__, (cls,), {})
        made._take(cls.plans[plan])
        return made

    @classmethod
    @abstractmethod
    def jobs(
        cls, rows: Sequence[Instrument], kinds: Collection[str], intervals: Sequence[str], period_s: float
    ) -> list[Job]:
        """Return what has to be asked for again and again; `intervals` are of candles."""

    @classmethod
    @abstractmethod
    def asked(cls, url: str) -> Asked:
        """Return what a recorded URL asked for."""

    @classmethod
    def named(cls, symbol: str) -> Instrument | None:
        """Return the instrument of a canonical symbol that no list has, because any such pair can be asked for."""
        return None

    @classmethod
    def search(cls, symbol: str) -> Fetch | None:
        """Ask for instruments like `symbol`; None where the venue cannot be asked, and only its list tells."""
        return None

    @classmethod
    @abstractmethod
    def unlisted(cls, venue_symbol: str, known: InstrumentTable) -> Instrument:
        """Return an instrument for the venue's spelling, for recordings whose list (`known`) does not have it."""

    @classmethod
    def resource_of(cls, url: str) -> tuple[str, str]:
        asked = cls.asked(url)
        return asked.resource, asked.symbols[0] if asked.symbols else ""

    @classmethod
    def find(cls, symbols: Sequence[str], rows: Sequence[Instrument]) -> tuple[list[Instrument], list[str]]:
        """Return the instruments of `symbols` among `rows` or such as can be named, and the symbols left over."""
        table = InstrumentTable(cls.venue, rows)
        found: list[Instrument] = []
        missing: list[str] = []
        for symbol in symbols:
            try:
                found.append(table.get(symbol))
            except UnknownInstrument:
                row = cls.named(symbol)
                if row is not None:
                    found.append(row)
                else:
                    missing.append(symbol)
        return found, missing

    # there is no stream

    @classmethod
    def peek(cls, payload: bytes, endpoint: str = "") -> list[Peek]:
        return []

    def subscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        return []

    def unsubscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        return []

    def venue_channels(self, subs: Sequence[Subscription]) -> list[str]:
        return []

    def receive(self, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        return []

    def resync(self, instrument: Instrument) -> list[bytes | Fetch]:
        return []


def batches(rows: Sequence[Instrument], size: int) -> list[tuple[Instrument, ...]]:
    """Divide `rows` into groups of `size` at most."""
    return [tuple(rows[at : at + size]) for at in range(0, len(rows), size)]


def again(fetch: Fetch, **params: str) -> Fetch:
    """Return `fetch` with these parameters, in place of those of the same name."""
    kept = tuple((name, value) for name, value in fetch.params if name not in params)
    return replace(fetch, params=(*kept, *params.items()))
