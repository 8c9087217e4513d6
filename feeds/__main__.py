"""`python -m feeds VENUE`: run one venue's feed."""

import argparse

from feeds.polled_feed import PolledFeed
from feeds.process import Feed
from feeds.registry import VENUES, adapter_of
from hub import config
from hub.config import VenueSettings
from hub.processes import load_or_exit, run


def main() -> None:
    """Parse the command line and run until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m feeds", description="Run the feed of one venue.")
    parser.add_argument("venue", choices=sorted(VENUES))
    parser.add_argument("--config", help="TOML file; default $TICKWIRE_CONFIG, then hub.toml")
    arguments = parser.parse_args()
    settings = load_or_exit(arguments.config)

    async def feed() -> None:
        own = settings.venues.get(arguments.venue, VenueSettings())
        process = PolledFeed if adapter_of(arguments.venue, own.feed, own.plan).polled else Feed
        await process(arguments.venue, settings, lambda: config.load(arguments.config)).run()

    run(feed, f"feed-{arguments.venue}", settings)


if __name__ == "__main__":
    main()
