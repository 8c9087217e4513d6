"""`python -m hub.consolidator`: make venue `all` of what the venues publish."""

import argparse

from hub.consolidator.process import Consolidator
from hub.processes import load_or_exit, run

__all__: list[str] = []


def main() -> None:
    """Parse the command line and run until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m hub.consolidator", description=__doc__)
    parser.add_argument("--config", help="TOML file; default $TICKWIRE_CONFIG, then hub.toml")
    settings = load_or_exit(parser.parse_args().config)

    async def consolidate() -> None:
        await Consolidator(settings).run()

    run(consolidate, "consolidator", settings)


if __name__ == "__main__":
    main()
