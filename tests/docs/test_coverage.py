"""Nothing that a user can meet is without its place in the documents."""

import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from gateway import protocol
from gateway.protocol import CloseCode, Op
from gateway.ws import PARAMETERS
from hub import model
from hub.config import Settings
from hub.intervals import INTERVALS
from hub.keys import Keys
from hub.model import EVENT_KINDS, KINDS, Message
from hub.processes import EXIT_CODES
from tests.docs.documents import DOCS, ROOT, examples, first_cells, pages, section

TEXT = {page.name: page.read_text() for page in pages()}
EVERYTHING = "\n".join(TEXT.values())
FAMILIES = sorted({kind.partition(".")[0] for kind in KINDS})
STRUCTS = {
    "trade": model.Trade, "quote": model.Quote, "depth": model.Depth, "book": model.Book, "ticker": model.Ticker,
    "candle": model.Candle, "mark": model.Mark, "status": model.Status, "listing": model.Listing,
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind(family: str) -> None:
    text = TEXT["messages.md"]
    under = section(text, family)
    assert under
    assert [each.what.split()[0] for each in examples(under, "")][:1] == ["message"]
    row = re.search(rf"^\| \[`{family}(?:\.<interval>)?`\]\(#.*?\) \| (\w+) \|", text, re.MULTILINE)
    assert row is not None
    some = next(kind for kind in KINDS if kind.partition(".")[0] == family)
    assert row[1] == ("event" if some in EVENT_KINDS else "state")
    if family in STRUCTS:
        own = [each for each in STRUCTS[family].__struct_fields__ if each not in Message.__struct_fields__]
        states = {"live", "stale", "resyncing", "down"} if family == "status" else set()
        assert sorted(set(first_cells(under)) - states) == sorted(own)
    else:
        assert family == "forming"


def test_common_fields_and_intervals() -> None:
    text = TEXT["messages.md"]
    assert first_cells(section(text, "Every message")) == ["type", *Message.__struct_fields__]
    (line,) = re.findall(r"^Intervals: (.*?);", text, re.MULTILINE | re.DOTALL)
    assert re.findall(r"`(\w+)`", line) == list(INTERVALS)


def messages_of_the_socket() -> list[type[Struct]]:
    found = [each for each in vars(protocol).values() if isinstance(each, type) and issubclass(each, Struct)]
    tagged = [
        each for each in found if each.__struct_config__.tag and each.__struct_config__.tag_field in ("op", "type")
    ]
    assert len(tagged) >= 12
    return [each for each in tagged if each is not Op]


@pytest.mark.parametrize("struct", messages_of_the_socket(), ids=lambda each: each.__name__)
def test_every_message_of_the_socket(struct: type[Struct]) -> None:
    """Its table has its fields, and an example shows it."""
    text, tag = TEXT["websocket.md"], struct.__struct_config__.tag
    field = struct.__struct_config__.tag_field
    sent = ", sent" if struct is protocol.Auth else ", answered" if struct is protocol.Authenticated else ""
    head = f"| field of `{tag}`{sent} |"
    assert head in text
    table = text[text.index(head) :].partition("\n\n")[0]
    told = first_cells(table)
    assert sorted(told[1:]) == sorted(struct.__struct_fields__), head
    sign = ">" if issubclass(struct, Op) else "<"
    shown = "\n".join(each.text for each in examples(text, ""))
    assert re.search(rf'^{sign} \{{.*"{field}":"{tag}"', shown, re.MULTILINE)


def test_every_close_code_and_parameter() -> None:
    text = TEXT["websocket.md"]
    codes = [value for name, value in vars(CloseCode).items() if name.isupper()]
    frames = {int(code) for code in re.findall(r"FrameError\((\d+)", (ROOT / "gateway/frames.py").read_text())}
    told = {int(code) for code in re.findall(r"\d{4}", " ".join(re.findall(r"^\| ([\d, ]+) \|", text, re.MULTILINE)))}
    assert {*codes, *frames, 1008} == told
    assert set(PARAMETERS) <= set(first_cells(text))


def test_every_code_of_an_error() -> None:
    pattern = re.compile(
        r'(?:RequestError|NotFound)\(\s*"(\w+)"|Refused\(\s*\d+,\s*"(\w+)"|code="(\w+)"|_tell\([^"\n]*"(\w+)"'
        r'|_refused\([^)\n]*, "(\w+)"\)'
    )
    source = "\n".join(
        file.read_text() for folder in ("gateway", "hub") for file in sorted((ROOT / folder).glob("*.py"))
    )
    source += "\n".join(file.read_text() for file in sorted((ROOT / "gateway/routes").glob("*.py")))
    codes = {name for match in pattern.findall(source) for name in match if name}
    assert len(codes) > 30
    told = set(first_cells("\n".join(TEXT.values())))
    told |= set(re.findall(r"`(\w+)`", section(TEXT["rest.md"], "Errors")))
    assert codes - told == set()


def test_every_section_of_the_settings() -> None:
    sections = re.findall(r"^#?\[([\w.]+)\]$", (ROOT / "hub.toml").read_text(), re.MULTILINE)
    assert len(sections) > 12
    told = {name.strip("[]") for name in first_cells(section(TEXT["operations.md"], "Settings"))}
    assert {re.sub(r"^venues\..*", "venues.<name>", name) for name in sections} == told


def is_setting(name: str) -> bool:
    kind: Any = Settings
    for part in name.split("."):
        fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
        if part.endswith("*"):
            return any(each.startswith(part[:-1]) for each in fields)
        if part not in fields:
            return False
        kind = fields[part]
        if not (isinstance(kind, type) and issubclass(kind, Struct)):
            return name.endswith(part)
    return True


def test_every_setting_that_is_named_exists() -> None:
    assert is_setting("gateway.auth.secret")
    assert is_setting("publisher.log_*")
    assert not is_setting("gateway.auth.secrets")
    assert not is_setting("redis.urls")
    first = "|".join(Settings.__struct_fields__)
    named = set(re.findall(rf"`((?:{first})\.[a-z_.*]+)`", EVERYTHING)) - {"venues.md", "archive.md"}
    named = {name for name in named if not name.endswith((".md", ".py"))}
    assert len(named) > 40
    assert [name for name in sorted(named) if not name.startswith("venues.") and not is_setting(name)] == []
    variables = set(re.findall(r"\bTICKWIRE_([A-Z_]+__[A-Z_]+)\b", EVERYTHING))
    assert variables
    assert [name for name in variables if not is_setting(name.lower().replace("__", "."))] == []


def test_toml_in_the_documents_can_be_loaded(tmp_path: Path) -> None:
    from hub.config import load

    blocks = re.findall(r"^```toml\n(.*?)^```$", EVERYTHING, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 3
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.toml"
        file.write_text(block)
        assert tomllib.loads(block)
        load(file, {})


def test_every_name_in_redis() -> None:
    """The table of redis.md has each name that hub/keys.py can make."""
    keys, told = Keys(), first_cells(section(TEXT["redis.md"], "Keys"))
    made = {"newest": "md:<channel>", "log": "{md:<channel>}:log", "series": "{md:<channel>}:<field>"}
    wanted = set()
    for name, member in inspect.getmembers(Keys):
        if name.startswith("_") or name == "prefix":
            continue
        if isinstance(member, property):
            wanted.add(getattr(keys, name))
        else:
            words = [f"<{each}>" for each in inspect.signature(member).parameters if each != "self"]
            wanted.add(made.get(name) or getattr(keys, name)(*words))
    assert len(wanted) > 15
    assert set(told) == wanted


def test_every_exit_code() -> None:
    under = section(TEXT["python.md"], "Exit codes")
    told = [int(code) for code in re.findall(r"^\| (\d+) \|", under, re.MULTILINE)]
    assert told == sorted({0, 1, 130, *EXIT_CODES.values()})


def test_every_alert() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", (ROOT / "deploy/prometheus/alerts.yml").read_text()))
    assert len(alerts) > 10
    assert set(first_cells(section(TEXT["operations.md"], "Alerts"))) == alerts


def test_every_event_of_a_feed() -> None:
    told = set(first_cells(section(TEXT["operations.md"], "Events")))
    source = [
        file.read_text() for folder in ("feeds", "hub", "hub/consolidator") for file in (ROOT / folder).glob("*.py")
    ]
    counted = set(re.findall(r'counters\["(\w+)"\]', "\n".join(source)))
    counted -= {"bytes", "fetches_unanswered"}  # metrics of their own; of normalize alone
    assert len(counted) > 20
    assert {name for name in counted if not name.startswith("skipped_")} - told == set()


def test_every_volume_and_port_of_compose() -> None:
    import yaml

    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    under = section(TEXT["operations.md"], "Docker")
    assert {*compose["volumes"]} <= set(first_cells(under))
    ports = {port.split(":")[1] for each in compose["services"].values() for port in each.get("ports", [])}
    assert set(re.findall(r"^\| (\d+) \|", under, re.MULTILINE)) == ports
    profiles = {name for each in compose["services"].values() for name in each.get("profiles", [])}
    assert all(f"--profile {name}" in under for name in profiles)


def test_every_venue_and_plan() -> None:
    from feeds.poller import Poller
    from feeds.registry import VENUES, adapter_of

    text = TEXT["venues.md"]
    told = set(first_cells(text))
    assert set(VENUES) <= told
    for venue in ("alphavantage", "coingecko"):
        adapter = adapter_of(venue, "", "")
        assert issubclass(adapter, Poller)
        assert set(adapter.plans) <= told
    rest = adapter_of("alpaca", "rest", "")
    assert issubclass(rest, Poller)
    assert all(f"`{plan}`" in text for plan in rest.plans)
    for name in ("ALPACA_KEY_ID", "ALPACA_SECRET_KEY", "ALPHAVANTAGE_API_KEY", "COINGECKO_API_KEY"):
        assert f"`{name}`" in text


def test_the_readme_stays_short() -> None:
    assert len(TEXT["README.md"].splitlines()) <= 250
    assert all(f"docs/{page.name}" in TEXT["README.md"] for page in DOCS.glob("*.md"))
