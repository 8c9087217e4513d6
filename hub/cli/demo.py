"""The demo: a venue server on this machine that replays recorded sessions, and the settings that lead a feed to it."""

from pathlib import Path
from typing import Final

import hub
from hub.errors import ConfigError

__all__ = ["SYMBOLS", "VENUE", "data_dir", "environment", "server_command", "sessions"]

VENUE: Final = "binance"
SESSIONS: Final = ("cryptofeed_2021-04-04", "cryptofeed_2021-04-05")
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


def data_dir(live: str) -> str:
    """Return the folder of the demo's Redis: recorded data must never stand among live data."""
    return f"{live}-demo"


def sessions() -> list[Path]:
    """Return the session folders; ConfigError where Tickwire runs outside its repository and has none."""
    root = Path(hub.__file__).resolve().parents[1] / "demo" / VENUE
    folders = [root / name for name in SESSIONS]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"the demo needs the recorded session {folder}; run it from a clone of the repository")
    return folders


def server_command(port: int) -> list[str]:
    """Return the arguments of `python` that start the venue server on `port`."""
    folders = [str(folder) for folder in sessions()]
    return ["-m", "feeds.replay", VENUE, *folders, "--port", str(port), "--loop", "--shift"]


def environment(port: int) -> dict[str, str]:
    """Return the settings, as environment variables, that point the venue's feed to the server on `port`."""
    prefix = f"TICKWIRE_VENUES__{VENUE.upper()}__"
    return {
        f"{prefix}WS_URL": f"ws://127.0.0.1:{port}",
        f"{prefix}REST_URL": f"http://127.0.0.1:{port}",
        f"{prefix}SYMBOLS": "[" + ", ".join(f'"{symbol}"' for symbol in SYMBOLS) + "]",
    }
