"""hub/config.py: defaults, file, environment, and errors that say what to change."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from hub.config import Settings, VenueSettings, is_set, load
from hub.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def read(tmp_path: Path, toml: str, **environ: str) -> Settings:
    file = tmp_path / "hub.toml"
    file.write_text(toml)
    return load(file, environ)


@pytest.fixture(autouse=True)
def no_hub_toml_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_defaults() -> None:
    settings = load(environ={})
    assert settings == Settings()
    assert settings.redis.url == ""
    assert settings.gateway.host == "127.0.0.1"
    assert settings.venues == {}


def test_candles_of_other_intervals(tmp_path: Path) -> None:
    found = read(tmp_path, "[candles]\nintervals = ['4h', '10s', '2h', '30m']\nempty = 'flat'").candles
    assert (found.intervals, found.empty) == (["4h", "10s", "2h", "30m"], "flat")


def test_the_address_of_redis() -> None:
    assert load(environ={"TICKWIRE_REDIS__PORT": "7000"}).redis.address == "redis://127.0.0.1:7000/0"
    assert load(environ={"TICKWIRE_REDIS__URL": "unix:///run/redis.sock"}).redis.address == "unix:///run/redis.sock"


def test_two_settings_share_no_list() -> None:
    assert VenueSettings().kinds is not VenueSettings().kinds
    assert VenueSettings().symbols is not VenueSettings().symbols


def test_file(tmp_path: Path) -> None:
    settings = read(tmp_path, '[redis]\nport = 7000\n[venues.binance]\nsymbols = ["BTC-USDT"]\n')
    assert settings.redis.port == 7000
    assert settings.venues == {"binance": VenueSettings(symbols=["BTC-USDT"])}


def test_the_file_is_named_or_found(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text("[redis]\nport = 7001\n")
    (tmp_path / "other.toml").write_text("[redis]\nport = 7002\n")
    assert load(environ={}).redis.port == 7001
    assert load(environ={"TICKWIRE_CONFIG": "other.toml"}).redis.port == 7002
    assert load("hub.toml", {"TICKWIRE_CONFIG": "other.toml"}).redis.port == 7001


def test_the_environment_wins(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        "[redis]\nport = 7000\nprefix = 'x:'\n",
        TICKWIRE_REDIS__PORT="7003",
        TICKWIRE_REDIS__URL="redis://:pw@host/0",
        TICKWIRE_GATEWAY__ALLOW_REMOTE_WITHOUT_AUTH="true",
        TICKWIRE_VENUES__BINANCE__SYMBOLS='["BTC-USDT", "ETH-USDT"]',
        TICKWIRE_REQUIRE_ALL="1",
        TICKWIRE_SUPERVISED="1",
        PATH="ignored",
    )
    assert (settings.redis.port, settings.redis.prefix) == (7003, "x:")
    assert settings.redis.url == "redis://:pw@host/0"
    assert settings.gateway.allow_remote_without_auth is True
    assert settings.venues["binance"].symbols == ["BTC-USDT", "ETH-USDT"]


def test_is_set(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text("[redis]\nport = 6379\n")
    assert is_set("redis.port", file, {})
    assert not is_set("redis.prefix", file, {})
    assert not is_set("gateway.port", file, {})
    assert is_set("gateway.port", file, {"TICKWIRE_GATEWAY__PORT": "1"})


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[redis]\nprot = 1", "unknown setting redis.prot; did you mean redis.port?"),
        ("[gatewai]\nport = 1", "unknown setting gatewai; did you mean gateway?"),
        (
            "[venues.binance]\nsymbol = []",
            "unknown setting venues.binance.symbol; did you mean venues.binance.symbols?",
        ),
        ("[log]\nzzzzzz = 1", "unknown setting log.zzzzzz; known: format, level"),
        ("[redis]\nport = 'x'", "Expected `int`, got `str` - at `$.redis.port`"),
        ("[log]\nlevel = 'loud'", "Invalid enum value 'loud' - at `$.log.level`"),
        ("[redis]\nport = 70000", "redis.port = 70000 cannot be used; allowed: 1 to 65535"),
        ("[gateway]\nport = 0", "gateway.port = 0 cannot be used; allowed: 1 to 65535"),
        ("[gateway.auth]\nsecret = 'hunter2'", "gateway.auth.secret is too short; allowed: 32 bytes or more"),
        ("[gateway.auth]\ndeadline_s = 0.0", "gateway.auth.deadline_s = 0.0 cannot be used; allowed: more than 0"),
        ("[gateway.limits]\nconnects_per_s = -1.0", "gateway.limits.connects_per_s = -1.0 cannot be used; allowed: 0"),
        ("[gateway]\norigins = ['*']", "gateway.origins = '*' cannot be used; allowed: origins such as"),
        ("[redis]\nprefix = ''", "redis.prefix = '' cannot be used"),
        ("[candles]\nintervals = ['7m']", "candles.intervals = '7m' cannot be used; allowed: "),
        ("[candles]\nintervals = []", "candles.intervals = [] cannot be used; allowed: at least one"),
        ("[candles]\nintervals = ['2h', '3m', '7m']", "candles.intervals = '7m' cannot be used; allowed: 1s, "),
        ("[candles]\nintervals = ['2m']", "allowed: 1s, 5s, 10s, 15s, 30s, 1m, 3m, 5m"),
        ("[candles]\nintervals = ['10s', '15s']", "cannot be used; allowed: multiples of the shortest"),
        ("[candles]\nintervals = ['1m', '1m']", "cannot be used; allowed: each interval once"),
        ("[candles]\nempty = 'none'", "Invalid enum value 'none' - at `$.candles.empty`"),
        ("[candles]\nforming_per_s = 0.0", "candles.forming_per_s = 0.0 cannot be used; allowed: more than 0"),
        ("[candles]\ngrace_ms = -1", "candles.grace_ms = -1 cannot be used; allowed: 0 or more"),
        ("[candles]\nrepair_max = -1", "candles.repair_max = -1 cannot be used; allowed: 0 to 5000"),
        ("[books]\nlevels = 0", "books.levels = 0 cannot be used"),
        ("[books]\nkept = 10", "books.kept = 10 cannot be used; allowed: at least books.levels (1000)"),
        ("[books]\nsnapshot_every = 1000", "publisher.log_books = 1500 cannot be used; allowed: at least twice"),
        ("[books]\ndepth_per_s = 0.0", "books.depth_per_s = 0.0 cannot be used; allowed: more than 0"),
        ("[venues.binance]\nkinds = ['trades']", "venues.binance.kinds = 'trades' cannot be used; allowed: "),
        ("not toml", "cannot read the configuration"),
    ],
)
def test_errors_name_the_setting_and_what_is_allowed(tmp_path: Path, toml: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        read(tmp_path, toml)


def test_unknown_name_in_the_environment() -> None:
    with pytest.raises(ConfigError, match=re.escape("unknown setting redis.ulr; did you mean redis.url?")):
        load(environ={"TICKWIRE_REDIS__ULR": "redis://host"})


def test_a_value_is_no_section(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'redis' is a value, not a section"):
        read(tmp_path, "redis = 1", TICKWIRE_REDIS__PORT="1")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration 'none\.toml'"):
        load("none.toml", {})


def example() -> dict[str, object]:
    """The example file with every setting uncommented."""
    text = (ROOT / "hub.toml").read_text()
    return tomllib.loads(re.sub(r"^#(?=[\[\w])", "", text, flags=re.MULTILINE))


def test_the_example_file_changes_nothing() -> None:
    assert load(ROOT / "hub.toml", {}) == Settings()


def test_the_example_file_names_every_setting_with_its_default() -> None:
    shown = example()
    venue = shown.pop("venues")
    defaults = msgspec.to_builtins(Settings())
    assert defaults.pop("venues") == {}
    assert shown == defaults
    assert isinstance(venue, dict)
    assert set(venue["binance"]) == set(VenueSettings.__struct_fields__)


def test_the_example_file_loads_when_uncommented(tmp_path: Path) -> None:
    text = re.sub(r"^#(?=[\[\w])", "", (ROOT / "hub.toml").read_text(), flags=re.MULTILINE)
    assert read(tmp_path, text).venues["binance"].symbols == ["BTC-USDT", "ETH-USDT"]
