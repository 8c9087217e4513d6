"""The demo: venue servers on this machine that replay recorded sessions, and the settings that lead feeds to them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

import hub
from hub.errors import ConfigError

__all__ = ["SYMBOLS", "VENUES", "Recorded", "data_dir", "environment", "server_command", "sessions"]


class Recorded(Struct, frozen=True):
    """What the demo plays of one venue: session folders below the repository, and canonical symbols."""

    sessions: tuple[str, ...]
    symbols: tuple[str, ...]


SYMBOLS: Final = (
    "BTC-USDT",
    "ETH-USDT",
    "DOT-USDT",
    "AXS-BNB",
    "BTC-AUD",
    "BTCST-USDT",
    "DENT-USDT",
    "ETH-BRL",
    "MANA-USDT",
    "NEO-USDC",
    "QTUM-ETH",
    "RENBTC-ETH",
    "ZIL-USDT",
)
"""of Binance"""

_DATA = "tests/data/sessions"

VENUES: Final[Mapping[str, Recorded]] = {
    "binance": Recorded(("demo/binance/cryptofeed_2021-04-04", "demo/binance/cryptofeed_2021-04-05"), SYMBOLS),
    "binance_futures": Recorded(
        (f"{_DATA}/binance_futures/cryptofeed_2021-07-22",),
        ("SUSHI-USDT-PERP", "CTK-USDT-PERP", "AKRO-USDT-PERP", "KEEP-USDT-PERP"),
    ),
    "kraken": Recorded(
        (f"{_DATA}/kraken/crossbook_2026-08-02_BTCUSD_d25", f"{_DATA}/kraken/crossbook_2026-08-02_ETHUSD_d25"),
        ("BTC-USD", "ETH-USD"),
    ),
    "okx": Recorded((f"{_DATA}/okx/cryptofeed_2022-02-27",), ("ELON-USDT", "ZEN-USDT", "UNI-USD-PERP")),
}


def data_dir(live: str) -> str:
    """Return the folder of the demo's Redis: recorded data must never stand among live data."""
    return f"{live}-demo"


def sessions(venue: str) -> list[Path]:
    """Return the session folders; ConfigError where Tickwire runs outside its repository and has none."""
    root = Path(hub.__file__).resolve().parents[1]
    folders = [root / name for name in VENUES[venue].sessions]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"the demo needs the recorded session {folder}; run it from a clone of the repository")
    return folders


def server_command(venue: str, port: int) -> list[str]:
    """Return the arguments of `python` that start the server of `venue` on `port`."""
    folders = [str(folder) for folder in sessions(venue)]
    return ["-m", "feeds.replay", venue, *folders, "--port", str(port), "--loop", "--shift"]


def environment(ports: Mapping[str, int]) -> dict[str, str]:
    """Return the settings, as environment variables, that point each venue's feed to its server's port."""
    result = {"TICKWIRE_INSTRUMENTS__VENUES": "[" + ", ".join(f'"{venue}"' for venue in ports) + "]"}
    for venue, port in ports.items():
        prefix = f"TICKWIRE_VENUES__{venue.upper()}__"
        result[f"{prefix}WS_URL"] = f"ws://127.0.0.1:{port}"
        result[f"{prefix}REST_URL"] = f"http://127.0.0.1:{port}"
        result[f"{prefix}SYMBOLS"] = "[" + ", ".join(f'"{symbol}"' for symbol in VENUES[venue].symbols) + "]"
    return result
