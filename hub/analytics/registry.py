"""Which measures there are: the hub's own, and those of files named in the settings.

A plug-in is a Python file with a dict `MEASURES`: name -> subclass of hub.analytics.Measure. Its code runs in the
consolidator's process: name only files you trust.
"""

import difflib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from hub.analytics.bands import Bands
from hub.analytics.cross import CrossSpread
from hub.analytics.measure import Measure
from hub.analytics.order_flow import OrderFlow
from hub.analytics.top import Imbalance, Microprice, Spread
from hub.analytics.volatility import Volatility
from hub.analytics.vwap import Vwap
from hub.errors import ConfigError

__all__ = ["BUILT_IN", "choose_measures"]

BUILT_IN: Final[Mapping[str, type[Measure]]] = {
    "spread": Spread,
    "microprice": Microprice,
    "imbalance": Imbalance,
    "depth": Bands,
    "ofi": OrderFlow,
    "volatility": Volatility,
    "vwap": Vwap,
    "cross_spread": CrossSpread,
}


def choose_measures(names: Sequence[str], plugins: Sequence[str]) -> dict[str, type[Measure]]:
    """Return the measures called `names`, in that order. ConfigError where one is unknown or a file cannot be used."""
    known = dict(BUILT_IN)
    for path in plugins:
        for name, measure in _load(path).items():
            if name in known:
                raise ConfigError(f"consolidator.plugins: {path} names a measure {name!r}, which there is already")
            known[name] = measure
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise ConfigError(f"consolidator.analytics: there is no measure {name!r}; {hint}")
    return {name: known[name] for name in names}


def _load(path: str) -> Mapping[str, type[Measure]]:
    where = Path(path)
    spec = importlib.util.spec_from_file_location(f"tickwire_plugin_{where.stem}", where)
    if not where.is_file() or spec is None or spec.loader is None:
        raise ConfigError(f"consolidator.plugins: {path} is no Python file that can be read")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"consolidator.plugins: {path} cannot be used: {type(error).__name__}: {error}") from error
    measures = getattr(module, "MEASURES", None)
    if not isinstance(measures, Mapping) or not measures:
        raise ConfigError(f"consolidator.plugins: {path} has no dict MEASURES of names and classes")
    for name, measure in measures.items():
        if not isinstance(name, str) or not isinstance(measure, type) or not issubclass(measure, Measure):
            raise ConfigError(
                f"consolidator.plugins: {path}: MEASURES[{name!r}] is no subclass of hub.analytics.Measure"
            )
    return measures
