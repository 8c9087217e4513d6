"""Log lines: for people on a terminal, JSON elsewhere. Always on stderr, because stdout belongs to a command's output.

Messages are `what happened key=value ...`. Passwords and tokens in URLs are masked here, whoever logs them.
"""

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

import msgspec

from hub.config import LogSettings

__all__ = ["mask_tokens", "mask_url", "setup"]

_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)
#: A JWT begins with the base64 of `{"`.
_JWT = re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*")
_SECRET_QUERY = re.compile(r"([?&][^=&#]*(?:password|token|secret|signature|key)[^=&#]*=)[^&#]*", re.IGNORECASE)
_COLOURS: Final = {"WARNING": "\033[33m", "ERROR": "\033[31m", "CRITICAL": "\033[31m"}
_encode = msgspec.json.Encoder().encode


def mask_tokens(text: str) -> str:
    """Return `text` with every JWT in it replaced by `***`."""
    return _JWT.sub("***", text)


def mask_url(url: str) -> str:
    """Return `url` with password, and query values that look like credentials, replaced by `***`.

    Everything up to the last @ counts as user and password: a password may hold an unescaped `/` or `@`, and hiding
    too much is harmless.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    user_info, at, host = rest.rpartition("@")
    user, colon, _ = user_info.partition(":")
    if colon:
        rest = f"{user}:***{at}{host}"
    return _SECRET_QUERY.sub(r"\1***", f"{scheme}://{rest}")


def _mask_text(text: str) -> str:
    if "eyJ" in text:
        text = mask_tokens(text)
    return _URL.sub(lambda match: mask_url(match.group()), text) if "://" in text else text


class _Human(logging.Formatter):
    def __init__(self, process: str, *, colour: bool) -> None:
        super().__init__()
        self._process, self._colour = process, colour

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        line = f"{time} {record.levelname:<7} {self._process} {super().format(record)}"
        colour = _COLOURS.get(record.levelname) if self._colour else None
        return f"{colour}{_mask_text(line)}\033[0m" if colour else _mask_text(line)


class _Json(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": _mask_text(record.getMessage()),
        }
        if record.exc_info:
            line["error"] = _mask_text(self.formatException(record.exc_info))
        return _encode(line).decode()


def setup(settings: LogSettings, process: str, stream: TextIO | None = None) -> None:
    """Send all log records of this process to `stream` (stderr), replacing what an earlier call installed."""
    stream = stream or sys.stderr
    human = settings.format == "human" or (settings.format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Human(process, colour=stream.isatty()) if human else _Json(process))
    root = logging.getLogger()
    for old in root.handlers[:]:
        # Exactly the plain handlers of earlier calls: a test runner's own handlers are subclasses and stay.
        if type(old) is logging.StreamHandler:
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
