"""`python -m feeds.replay VENUE SESSION...`: serve recorded sessions until told to stop."""

import argparse
import asyncio

from feeds.dialects import DIALECTS
from feeds.replay.server import ReplayServer
from hub.processes import load_or_exit, run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tickwire replay", description="Serve recorded sessions as the venue would, on 127.0.0.1."
    )
    parser.add_argument("venue", choices=sorted(DIALECTS))
    parser.add_argument("sessions", nargs="+", metavar="SESSION", help="session folder, or file of frames")
    parser.add_argument("--port", type=int, default=9443)
    parser.add_argument("--speed", type=float, default=1.0, help="how much faster than recorded")
    parser.add_argument("--loop", action="store_true", help="begin again at the end, with ids and times moved up")
    parser.add_argument("--shift", action="store_true", help="move all times to now")
    parser.add_argument("--start-now", action="store_true", help="do not wait for the first subscription")
    parser.add_argument("--instruments", metavar="FILE", help="list of instruments, as the venue's REST answers it")
    parser.add_argument("--pause", type=float, default=2.0, metavar="S", help="seconds between two laps")
    parser.add_argument("--ping", type=float, metavar="S", help="seconds between pings; default: as the venue")
    parser.add_argument("--cut-after", type=float, metavar="S", help="close each connection after so many seconds")
    parser.add_argument("--notice", type=float, metavar="S", help="announce that cut so many seconds before")
    parser.add_argument("--config", help="TOML file; default $TICKWIRE_CONFIG, then hub.toml")
    return parser


def main() -> None:
    """Parse the command line and serve until told to stop."""
    arguments = _parser().parse_args()
    settings = load_or_exit(arguments.config)

    async def serve() -> None:
        server = ReplayServer(
            arguments.venue,
            arguments.sessions,
            port=arguments.port,
            speed=arguments.speed,
            loop=arguments.loop,
            shift=arguments.shift,
            start_now=arguments.start_now,
            instruments=arguments.instruments,
            pause_s=arguments.pause,
            ping_s=arguments.ping,
            cut_after_s=arguments.cut_after,
            notice_s=arguments.notice,
        )
        async with server:
            await asyncio.Event().wait()

    run(serve, f"replay-{arguments.venue}", settings)


if __name__ == "__main__":
    main()
