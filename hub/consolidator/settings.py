"""Settings of the consolidator, `[consolidator]`, and what they may be."""

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct, field

from hub.errors import ConfigError, RequestError
from hub.keys import ALL_VENUES, parse_channel

__all__ = ["ConsolidatorSettings", "check_consolidator"]

KINDS = ("quote", "depth", "candle")


class ConsolidatorSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is made for venue `all`: `kinds` of `symbols` (empty: of every symbol).

    `groups` merge several symbols into one: `"BTC-USD" = ["BTC-USD", "BTC-USDC"]`. A depth shows `levels` (no more
    than the feeds' depths, books.depth_levels), at most `depth_per_s` times a second; `imbalance_n` looks at
    `imbalance_levels` of them. Candles close `grace_ms` after their end:
    by then it is known that every feed was alive until there.

    `analytics` names measures, `plugins` files with further ones, `windows_s` and `bands_bps` are what they look at.
    """

    enabled: bool = True
    symbols: list[str] = []
    kinds: list[str] = field(default_factory=lambda: list(KINDS))
    groups: dict[str, list[str]] = {}
    levels: int = 20
    imbalance_levels: int = 5
    depth_per_s: float = 10.0
    grace_ms: int = 5000
    analytics: list[str] = field(default_factory=lambda: ["depth", "ofi", "volatility", "vwap", "cross_spread"])
    plugins: list[str] = []
    windows_s: list[Annotated[int, Meta(ge=1, le=3600)]] = field(default_factory=lambda: [10, 60, 300])
    bands_bps: list[Annotated[float, Meta(gt=0, le=1000)]] = field(default_factory=lambda: [2.0, 10.0])


def check_consolidator(settings: ConsolidatorSettings) -> None:
    """Raise ConfigError for values that cannot be used."""

    def need(ok: bool, name: str, value: Any, allowed: str) -> None:
        if not ok:
            raise ConfigError(f"consolidator.{name} = {value!r} cannot be used; allowed: {allowed}")

    for kind in settings.kinds:
        need(kind in KINDS, "kinds", kind, ", ".join(KINDS))
    need(1 <= settings.levels <= 5000, "levels", settings.levels, "1 to 5000")
    need(1 <= settings.imbalance_levels <= 5000, "imbalance_levels", settings.imbalance_levels, "1 to 5000")
    need(0 < settings.depth_per_s <= 1000, "depth_per_s", settings.depth_per_s, "more than 0, up to 1000")
    need(0 <= settings.grace_ms <= 60_000, "grace_ms", settings.grace_ms, "0 to 60000")
    for symbol in settings.symbols:
        _check_symbol("symbols", symbol)
    _check_groups(settings.groups)


def _check_symbol(name: str, symbol: str) -> None:
    try:
        parse_channel(f"quote:{ALL_VENUES}:{symbol}")
    except RequestError as error:
        raise ConfigError(f"consolidator.{name}: {error}") from error


def _check_groups(groups: Mapping[str, list[str]]) -> None:
    for name, members in groups.items():
        _check_symbol("groups", name)
        if not members:
            raise ConfigError(f"consolidator.groups.{name} is empty; it lists the symbols that become {name}")
        for member in members:
            _check_symbol(f"groups.{name}", member)
        shapes = {_shape(symbol) for symbol in (name, *members)}
        if len(shapes) > 1:
            raise ConfigError(
                f"consolidator.groups.{name} = {members!r} cannot be merged; allowed: symbols that differ in the quote "
                "currency alone (a perpetual is no spot, and an expiry is no other)"
            )


def _shape(symbol: str) -> tuple[str, ...]:
    """Return a symbol without its quote currency: `BTC-USDT-PERP` is ("BTC", "PERP")."""
    base, *rest = symbol.split("-")
    return (base, *rest[1:])
