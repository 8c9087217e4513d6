"""The Procfile lists what `tickwire up` starts, and every part it lists exists."""

import importlib.util
import shlex
from pathlib import Path

import pytest

from feeds.registry import ADAPTERS
from hub.cli.parts import DEFAULT_VENUES, build_parts
from hub.cli.supervisor import Part
from hub.config import MetricsSettings, Settings, VenueSettings

ROOT = Path(__file__).resolve().parents[1]


def procfile() -> dict[str, str]:
    lines = (ROOT / "Procfile").read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines)


def commands(parts: list[Part]) -> dict[str, str]:
    return {part.name: shlex.join(["python", *part.argv[1:]]) for part in parts}


def test_the_procfile_is_what_up_starts() -> None:
    assert procfile() == commands(build_parts(Settings(), "redis://127.0.0.1:6379/0", {}))


def test_in_the_order_of_starting() -> None:
    stages = {part.name: part.stage for part in build_parts(Settings(), "", {})}
    assert sorted(procfile(), key=lambda name: stages[name]) == list(procfile())


@pytest.mark.parametrize("command", procfile().values())
def test_every_part_exists(command: str) -> None:
    module = shlex.split(command)[2]
    names = (module, f"{module}.__main__")
    assert any((spec := importlib.util.find_spec(name)) and not spec.submodule_search_locations for name in names)


def test_a_configured_redis_is_not_started() -> None:
    parts = build_parts(Settings(), "redis://elsewhere/0", {}, embedded=False)
    assert [part.name for part in parts] == [
        *(f"feed-{venue}" for venue in DEFAULT_VENUES),
        "instruments",
        "consolidator",
        "gateway",
    ]
    assert all(part.env["TICKWIRE_REDIS__URL"] == "redis://elsewhere/0" for part in parts)


def test_live_by_default_are_the_venues_that_want_no_keys() -> None:
    assert set(DEFAULT_VENUES) == {name for name, adapter in ADAPTERS.items() if not adapter.credentials_env}


def test_one_feed_per_enabled_venue() -> None:
    settings = Settings(venues={"a": VenueSettings(), "b": VenueSettings(enabled=False), "c": VenueSettings()})
    names = [part.name for part in build_parts(settings, "", {})]
    assert names == ["redis", "feed-a", "feed-c", "instruments", "consolidator", "gateway"]


def test_parts_have_ports_of_their_own_for_metrics() -> None:
    settings = Settings(metrics=MetricsSettings(port_base=9500))
    parts = build_parts(settings, "", {})
    ports = {part.name: part.env["TICKWIRE_METRICS__PORT"] for part in parts if "TICKWIRE_METRICS__PORT" in part.env}
    assert list(ports) == [*(f"feed-{venue}" for venue in DEFAULT_VENUES), "instruments", "consolidator"]
    assert list(map(int, ports.values())) == list(range(9500, 9500 + len(ports)))
