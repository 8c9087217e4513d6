"""hub/log.py: two formats, and no credentials in either."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest

from hub.config import LogSettings
from hub.log import mask_url, setup


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restore_root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:secret@host:1/0", "redis://:***@host:1/0"),
        ("rediss://user:secret@host/0", "rediss://user:***@host/0"),
        ("unix://user:secret@/run/redis.sock?db=1", "unix://user:***@/run/redis.sock?db=1"),
        ("redis://user@host", "redis://user@host"),
        ("redis://:with@at/and/slash@host", "redis://:***@host"),
        ("redis://host?password=secret&db=1", "redis://host?password=***&db=1"),
        ("https://api.example/x?symbol=A&apikey=secret", "https://api.example/x?symbol=A&apikey=***"),
        ("wss://host/v1/ws?token=secret", "wss://host/v1/ws?token=***"),
        ("no url", "no url"),
    ],
)
def test_mask_url(url: str, masked: str) -> None:
    assert mask_url(url) == masked


def test_lines_for_people_on_a_terminal() -> None:
    stream = Terminal()
    setup(LogSettings(), "gateway", stream)
    logging.getLogger("hub.x").info("redis started port=%d", 6379)
    line = stream.getvalue()
    assert line.endswith("INFO    gateway redis started port=6379\n")
    assert "\033" not in line


def test_warnings_are_coloured_on_a_terminal_alone() -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        setup(LogSettings(format="human"), "gateway", stream)
        logging.getLogger("hub.x").warning("careful")
    assert "\033[33m" in terminal.getvalue()
    assert "\033" not in file.getvalue()


def test_json_lines_elsewhere() -> None:
    stream = io.StringIO()
    setup(LogSettings(), "feed-binance", stream)
    logging.getLogger("hub.x").warning("lost\nfound venue=%s", "binance")
    line = json.loads(stream.getvalue())
    assert stream.getvalue().count("\n") == 1
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning",
        "process": "feed-binance",
        "logger": "hub.x",
        "message": "lost\nfound venue=binance",
    }


def test_an_exception_is_part_of_its_json_line() -> None:
    stream = io.StringIO()
    setup(LogSettings(), "p", stream)
    try:
        raise ValueError("connecting to redis://:secret@host failed")
    except ValueError:
        logging.getLogger("hub.x").exception("broken")
    line = json.loads(stream.getvalue())
    assert "ValueError: connecting to redis://:***@host failed" in line["error"]


@pytest.mark.parametrize("form", ["human", "json"])
def test_no_credentials_whoever_logs_them(form: str) -> None:
    stream = io.StringIO()
    setup(LogSettings(format="human" if form == "human" else "json"), "p", stream)
    logging.getLogger("some.library").error("cannot reach redis://user:secret@host:6379/0, giving up")
    assert "secret" not in stream.getvalue()
    assert "redis://user:***@host:6379/0, giving up" in stream.getvalue()


@pytest.mark.parametrize("form", ["human", "json"])
def test_tokens_are_masked(form: Literal["human", "json"]) -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl-_x"
    stream = io.StringIO()
    setup(LogSettings(format=form), "gateway", stream)
    logging.getLogger("x").info("got %s and Bearer %s.", token, token)
    assert "c2lnbmF0dXJl" not in stream.getvalue()
    assert "got *** and Bearer ***" in stream.getvalue()


def test_a_second_setup_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    setup(LogSettings(), "p", first)
    setup(LogSettings(level="error"), "p", second)
    logging.getLogger("hub.x").warning("quiet")
    logging.getLogger("hub.x").error("loud")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1
