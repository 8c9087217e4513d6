"""`tickwire config check`: read the settings as every process does, and show what is in force."""

import argparse
import asyncio
from collections.abc import Iterator, Sequence

import msgspec

from hub import config
from hub.analytics.registry import choose_measures
from hub.cli.addresses import addresses_of
from hub.errors import ConfigError
from hub.log import mask_url

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tickwire config", description=__doc__)
    parser.add_argument("action", choices=["check"])
    parser.add_argument("--config", metavar="FILE", help="settings (default: hub.toml where there is one)")
    args = parser.parse_args(argv)
    settings = config.load(args.config)
    choose_measures(settings.consolidator.analytics, settings.consolidator.plugins)
    found = asyncio.run(addresses_of(list(settings.venues), args.config)) if settings.venues else []
    for row in found:
        if row.error:
            raise ConfigError(row.error)
    for name, value in _flat("", msgspec.to_builtins(settings)):
        print(f"{name} = {msgspec.json.encode(value).decode()}")
    print("The configuration is valid.")
    for row in found:
        if row.missing and settings.venues[row.venue].enabled:
            print(f"Not in the environment, and venue {row.venue} needs it: {', '.join(row.missing)}")
    return 0


def _flat(prefix: str, tree: object) -> Iterator[tuple[str, object]]:
    """Yield dotted names and values, credentials masked."""
    if not isinstance(tree, dict):
        secret = prefix.endswith(".secret") and bool(tree)
        yield prefix, "***" if secret else mask_url(tree) if isinstance(tree, str) else tree
        return
    for name, value in tree.items():
        yield from _flat(f"{prefix}.{name}" if prefix else str(name), value)
