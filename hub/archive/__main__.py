"""`python -m hub.archive`, `tickwire archive`: write the event logs into Parquet files."""

import argparse
from pathlib import Path

from msgspec.structs import replace

from hub.archive.metrics import ArchiveCollector
from hub.archive.process import Archive
from hub.errors import HubError
from hub.metrics import serve_metrics
from hub.processes import exit_code, load_or_exit, run

__all__: list[str] = []


def main() -> None:
    """Parse the command line and archive until told to stop."""
    parser = argparse.ArgumentParser(prog="tickwire archive", description=__doc__)
    parser.add_argument("--out", metavar="DIR", help="folder of the files (default: archive.dir)")
    parser.add_argument(
        "--channels",
        metavar="PATTERNS",
        help="with commas between, e.g. trade:*:*,candle.1m:*:BTC-USDT (default: archive.channels)",
    )
    parser.add_argument("--config", metavar="FILE", help="TOML file; default $TICKWIRE_CONFIG, then hub.toml")
    args = parser.parse_args()
    settings = load_or_exit(args.config)
    if args.channels is not None:
        channels = [word.strip() for word in args.channels.split(",") if word.strip()]
        settings = replace(settings, archive=replace(settings.archive, channels=channels))
    root = Path(args.out or settings.archive.dir)
    try:
        archive = Archive(settings, root)
        serve_metrics(settings.metrics, ArchiveCollector(archive))
    except HubError as error:
        parser.exit(exit_code(error), f"tickwire archive: {error}\n")
    run(archive.run, "archive", settings)


if __name__ == "__main__":
    main()
