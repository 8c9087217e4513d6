"""The command `tickwire`: finds the subcommand and gives it the rest of the command line.

To add a command, add a row to COMMANDS. What belongs to another package runs as a process of its own (`_module`),
because the hub imports neither feeds nor gateway.
"""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NoReturn, TypeAlias, cast

from hub.errors import HubError
from hub.processes import exit_code

__all__ = ["COMMANDS", "main"]

Command: TypeAlias = Callable[[Sequence[str]], int]


def _here(module: str, argv: Sequence[str]) -> int:
    """Run `main(argv)` of a module of hub.cli, imported only now: `tickwire --help` should not wait for Redis."""
    command = cast(Command, importlib.import_module(f"hub.cli.{module}").main)
    return command(argv)


def _module(module: str, argv: Sequence[str]) -> NoReturn:
    """Become `python -m module argv`, so that output, signals and exit code are that program's."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *argv])


#: name -> (arguments, what it does, how it runs)
COMMANDS: Final[dict[str, tuple[str, str, Command]]] = {
    "up": ("[--demo] [--config FILE]", "run the whole hub on this machine", partial(_here, "up")),
    "redis-cli": ("[ARGS...]", "redis-cli, connected to the hub's Redis", partial(_here, "redis_cli")),
    "token": (
        "--channels A,B [--ttl TIME] [--sub NAME] | --revoke JTI",
        "mint a JWT for the gateway, or revoke one",
        partial(_here, "token"),
    ),
    "config": ("check [--config FILE]", "show the settings in force", partial(_here, "config_check")),
    "normalize": (
        "VENUE SESSION_DIR [--instruments FILE]",
        "canonical messages of a recorded session, as JSON lines",
        partial(_module, "feeds.normalize"),
    ),
    "record": (
        "VENUE --symbols A,B --out DIR [--seconds N]",
        "record a session from a venue",
        partial(_module, "feeds.record"),
    ),
    "backfill": (
        "VENUE SYMBOL --since TIME [--until TIME] [--interval 1m]",
        "fill history with the venue's own candles",
        partial(_module, "feeds.backfill"),
    ),
    "archive": (
        "[--out DIR] [--channels PATTERNS] [--config FILE]",
        "write the event logs into Parquet files",
        partial(_module, "hub.archive"),
    ),
    "replay": (
        "VENUE SESSION_DIR... [--port N] [--speed X] [--loop] [--shift]",
        "serve recorded sessions as the venue would",
        partial(_module, "feeds.replay"),
    ),
}


def _usage() -> str:
    lines = ["usage: tickwire COMMAND ...", ""]
    lines += [f"  tickwire {name} {arguments}\n      {text}" for name, (arguments, text, _) in COMMANDS.items()]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (hub/processes.py lists them)."""
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if name not in COMMANDS:
        print(f"tickwire: there is no command {name!r}\n\n{_usage()}", file=sys.stderr)
        return 2
    try:
        return COMMANDS[name][2](rest)
    except HubError as error:
        print(f"tickwire: {error}", file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
