"""hub/analytics/registry.py: which measures there are, and plug-ins."""

import re
from pathlib import Path

import pytest

from hub.analytics import Market, Measure
from hub.analytics.registry import BUILT_IN, choose_measures
from hub.config import load
from hub.consolidator.settings import ConsolidatorSettings
from hub.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
PLUGIN = '''
from hub.analytics import Measure

class Ticks(Measure):
    """`ticks`: how many quotes there were."""
    count = 0

    def on_quote(self, quote, venues, now):
        self.count += 1

    def numbers(self, now):
        return {"ticks": self.count}

MEASURES = {"ticks": Ticks}
'''


def test_the_default_is_there() -> None:
    default = ConsolidatorSettings()
    assert list(choose_measures(default.analytics, default.plugins)) == default.analytics


def test_a_plugin(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    chosen = choose_measures(["vwap", "ticks"], [str(file)])
    assert list(chosen) == ["vwap", "ticks"]
    assert chosen["ticks"](Market(symbol="X")).numbers(0) == {"ticks": 0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def", "SyntaxError"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("x = 1", "no dict MEASURES"),
        ("MEASURES = {}", "no dict MEASURES"),
        ("MEASURES = {'x': int}", "no subclass"),
        ("from hub.analytics import Measure\nMEASURES = {'vwap': Measure}", "already"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        choose_measures([], [str(file)])
    assert "mine.py" in str(caught.value)


def test_a_plugin_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.py is no Python file"):
        choose_measures([], ["nowhere.py"])


def test_an_unknown_name_gets_a_hint() -> None:
    with pytest.raises(ConfigError, match="did you mean 'vwap'"):
        choose_measures(["vwapp"], [])
    with pytest.raises(ConfigError, match="known: cross_spread"):
        choose_measures(["zzz"], [])


def test_every_number_is_defined_in_the_document() -> None:
    text = (ROOT / "ANALYTICS.md").read_text()
    market = Market(symbol="X", windows_s=(60,), bands_bps=(2.0,))
    for name, measure in BUILT_IN.items():
        assert f"`{name}`" in text
        assert measure.__doc__
        for number in measure(market).numbers(0):
            general = re.sub(r"_60s$", "_<w>s", re.sub(r"_2bps$", "_<x>bps", number))
            assert f"`{general}`" in text
            assert f"`{general}`" in measure.__doc__


def test_the_base_measures_nothing() -> None:
    with pytest.raises(NotImplementedError):
        Measure(Market(symbol="X")).numbers(0)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("kinds = ['trade']", "consolidator.kinds = 'trade'"),
        ("levels = 0", "consolidator.levels"),
        ("imbalance_levels = 0", "consolidator.imbalance_levels"),
        ("depth_per_s = 0", "consolidator.depth_per_s"),
        ("grace_ms = -1", "consolidator.grace_ms"),
        ("windows_s = [0]", "windows_s"),
        ("symbols = ['a b']", "consolidator.symbols"),
        ("[consolidator.groups]\n'BTC-USD' = []", "consolidator.groups.BTC-USD is empty"),
        ("[consolidator.groups]\n'BTC-USD' = ['BTC-USD-PERP']", "cannot be merged"),
        ("[consolidator.groups]\n'BTC-USD' = ['BTC-USD', 'ETH-USD']", "cannot be merged"),
        ("[consolidator.groups]\n'B:USD' = ['BTC-USD']", "canonical symbol"),
        ("level = 3", "did you mean consolidator.levels"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path: Path, toml: str, said: str) -> None:
    file = tmp_path / "hub.toml"
    file.write_text(f"[consolidator]\n{toml}\n")
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert said in str(caught.value)


def test_groups_of_perpetuals(tmp_path: Path) -> None:
    file = tmp_path / "hub.toml"
    file.write_text("[consolidator.groups]\n'BTC-USD-PERP' = ['BTC-USD-PERP', 'BTC-USDT-PERP']\n")
    assert load(file, {}).consolidator.groups == {"BTC-USD-PERP": ["BTC-USD-PERP", "BTC-USDT-PERP"]}
