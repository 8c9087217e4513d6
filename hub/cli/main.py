"""The command `tickwire`: finds the subcommand and gives it the rest of the command line.

To add a command, add a row to COMMANDS. What belongs to another package runs as a process of its own (`module`),
because the hub imports neither feeds nor gateway. Nothing is imported before it is needed: `tickwire --help` and
completion should not wait for Redis clients and tables.
"""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias, cast

import click

__all__ = ["COMMANDS", "Command", "cli", "main"]

Run: TypeAlias = Callable[[Sequence[str]], int]


class Command(NamedTuple):
    """`arguments` and `text` are for the overview, `examples` for the command's own help. `run` takes the arguments as
    they are; without it the command is the click command of that name in hub/cli/`module`.py. `options` and `words`
    (what may come first) are what completion offers of a command that has a parser of its own."""

    arguments: str
    text: str
    examples: tuple[str, ...]
    run: Run | None = None
    module: str = ""
    options: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


def _here(module: str, argv: Sequence[str]) -> int:
    """Run `main(argv)` of a module of hub.cli."""
    command = cast(Run, importlib.import_module(f"hub.cli.{module}").main)
    return command(argv)


def _module(module: str, argv: Sequence[str]) -> NoReturn:
    """Become `python -m module argv`, so that output, signals and exit code are that program's."""
    if any(word in ("-h", "--help") for word in argv):
        # It comes back, to add examples.
        sys.exit(subprocess.run([sys.executable, "-m", module, *argv], check=False).returncode)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *argv])


#: What the commands about a venue complete; the parser of each knows which it takes.
VENUES: Final = (
    "alpaca", "alphavantage", "binance", "binance_futures", "bybit", "coinbase", "coingecko", "deribit", "htx",
    "hyperliquid", "kraken", "okx",
)  # fmt: skip

#: name -> arguments, what it does, examples, how it runs
COMMANDS: Final[dict[str, Command]] = {
    "up": Command(
        "[--demo] [--config FILE]",
        "run the whole hub on this machine",
        ("tickwire up", "tickwire up --demo", "tickwire up --config my-hub.toml"),
        partial(_here, "up"),
        options=("--demo", "--config"),
    ),
    "watch": Command(
        "SYMBOL...",
        "live table of symbols and venues",
        ("tickwire watch BTC-USDT ETH-USDT", "tickwire watch BTC-USDT --venue binance --url https://hub.example.org"),
        module="watch",
    ),
    "quote": Command(
        "[SYMBOL...]",
        "best bid and ask per venue, and consolidated",
        ("tickwire quote BTC-USDT", "tickwire quote --json | jq '.[] | select(.state != \"live\")'"),
        module="query",
    ),
    "book": Command(
        "SYMBOL",
        "order books, per venue",
        ("tickwire book BTC-USDT --venue binance --depth 5", "tickwire book BTC-USDT --csv > book.csv"),
        module="query",
    ),
    "trades": Command(
        "SYMBOL",
        "the newest trades",
        ("tickwire trades BTC-USDT --limit 20", "tickwire trades BTC-USDT --venue kraken --csv"),
        module="query",
    ),
    "candles": Command(
        "SYMBOL",
        "closed candles",
        (
            "tickwire candles BTC-USDT --interval 5m --limit 12",
            "tickwire candles BTC-USDT --venue binance --start 2026-01-31T00:00:00Z --csv > candles.csv",
        ),
        module="query",
    ),
    "venues": Command("", "how each feed is", ("tickwire venues", "tickwire venues --json"), module="query"),
    "instruments": Command(
        "[SYMBOL]",
        "what venues list",
        ("tickwire instruments BTC-USDT", "tickwire instruments --venue okx --text BTC --csv"),
        module="query",
    ),
    "doctor": Command(
        "[--config FILE]",
        "look for what is wrong, and say what to do",
        ("tickwire doctor", "tickwire doctor --json", "tickwire doctor --offline"),
        module="doctor",
    ),
    "redis-cli": Command(
        "[ARGS...]",
        "redis-cli, connected to the hub's Redis",
        ("tickwire redis-cli", "tickwire redis-cli GET md:quote:binance:BTC-USDT"),
        partial(_here, "redis_cli"),
    ),
    "token": Command(
        "--channels A,B [--ttl TIME] [--sub NAME] | --revoke JTI",
        "mint a JWT for the gateway, or revoke one",
        ("tickwire token --channels 'quote:*:*' --ttl 12h --sub my-bot > token", "tickwire token --revoke 5f0c…"),
        partial(_here, "token"),
        options=(
            "--channels",
            "--revoke",
            "--ttl",
            "--sub",
            "--max-connections",
            "--max-subscriptions",
            "--max-messages-per-s",
            "--config",
        ),
    ),
    "config": Command(
        "check [--config FILE]",
        "show the settings in force",
        ("tickwire config check", "tickwire config check --config my-hub.toml"),
        partial(_here, "config_check"),
        options=("--config",),
        words=("check",),
    ),
    "normalize": Command(
        "VENUE SESSION_DIR [--instruments FILE]",
        "canonical messages of a recorded session, as JSON lines",
        ("tickwire normalize binance my-session | head -3",),
        partial(_module, "feeds.normalize"),
        options=("--instruments",),
        words=VENUES,
    ),
    "record": Command(
        "VENUE --symbols A,B --out DIR [--seconds N]",
        "record a session from a venue",
        ("tickwire record binance --symbols BTC-USDT,ETH-USDT --out my-session --seconds 60",),
        partial(_module, "feeds.record"),
        options=("--symbols", "--out", "--seconds", "--ws-url", "--rest-url", "--config"),
        words=VENUES,
    ),
    "backfill": Command(
        "VENUE SYMBOL --since TIME [--until TIME] [--interval 1m]",
        "fill history with the venue's own candles",
        ("tickwire backfill binance BTC-USDT --since 2026-01-01T00:00:00Z",),
        partial(_module, "feeds.backfill"),
        options=("--interval", "--since", "--until", "--config"),
        words=VENUES,
    ),
    "archive": Command(
        "[--out DIR] [--channels PATTERNS] [--config FILE]",
        "write the event logs into Parquet files",
        ("tickwire archive --out archive --channels 'trade:*:*'",),
        partial(_module, "hub.archive"),
        options=("--out", "--channels", "--config"),
    ),
    "replay": Command(
        "VENUE SESSION_DIR... [--port N] [--speed X] [--loop] [--shift]",
        "serve recorded sessions as the venue would",
        ("tickwire replay binance my-session --port 9443 --loop --shift",),
        partial(_module, "feeds.replay"),
        options=(
            "--port",
            "--speed",
            "--loop",
            "--shift",
            "--start-now",
            "--instruments",
            "--pause",
            "--ping",
            "--cut-after",
            "--notice",
            "--config",
        ),
        words=VENUES,
    ),
    "completion": Command(
        "bash|zsh|fish",
        "print the shell's completion script",
        (
            "tickwire completion bash > ~/.local/share/bash-completion/completions/tickwire",
            "tickwire completion zsh > ~/.zfunc/_tickwire      # a folder of $fpath",
            "tickwire completion fish > ~/.config/fish/completions/tickwire.fish",
        ),
        partial(_here, "completion"),
        words=("bash", "zsh", "fish"),
    ),
}

EXIT_CODES: Final = """\
exit codes: 0 done; 1 an error without a code of its own (doctor: something has failed); 2 a wrong argument or setting;
3 Redis cannot be used; 4, 5 another publisher has the venue; 6 a recorded session cannot be read; 7 the gateway cannot
be reached; 8 what was asked for is not there, not possible or not allowed; 130 Ctrl-C"""


class _Lazy(click.Group):
    """Makes a subcommand when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        row = COMMANDS.get(cmd_name)
        if row is None:
            return None
        if row.run is not None:
            return _passing(cmd_name, row, row.run)
        found: click.Command = getattr(importlib.import_module(f"hub.cli.{row.module}"), cmd_name)
        found.epilog = _examples(row)
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args[0] not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"there is no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write("usage: tickwire COMMAND ...    (tickwire COMMAND --help: options and examples)\n\n")
        for name, row in COMMANDS.items():
            formatter.write(f"  tickwire {name} {row.arguments}\n      {row.text}\n")
        formatter.write(f"\n{EXIT_CODES}\n")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        # Without making the commands, which would import all of them.
        return [CompletionItem(n, help=row.text) for n, row in COMMANDS.items() if n.startswith(incomplete)]


def _examples(row: Command) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in row.examples)


class _Passing(click.Command):
    """A command with a parser of its own."""

    def __init__(self, name: str, row: Command, **settings: Any) -> None:
        super().__init__(name, **settings)
        self._options = (*row.options, "--help")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(option) for option in self._options if option.startswith(incomplete)]


def _values(row: Command, ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Complete what is no option: what the command begins with, then files."""
    from click.shell_completion import CompletionItem

    if row.words and not ctx.params.get("argv"):
        return [CompletionItem(word) for word in row.words if word.startswith(incomplete)]
    return [CompletionItem(incomplete, type="file")]


def _passing(name: str, row: Command, run: Run) -> click.Command:
    """Return a command that takes its arguments as they are: it has a parser of its own."""

    def callback(argv: tuple[str, ...]) -> int:
        try:
            return run(argv)
        except SystemExit as error:
            if error.code in (0, None) and ("--help" in argv or "-h" in argv):
                click.echo("\nexamples:\n" + "\n".join(f"  {line}" for line in row.examples))
            raise

    return _Passing(
        name,
        row,
        callback=callback,
        params=[click.Argument(["argv"], nargs=-1, type=click.UNPROCESSED, shell_complete=partial(_values, row))],
        add_help_option=False,
        short_help=row.text,
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    )


cli: Final = _Lazy("tickwire", invoke_without_command=False, context_settings={"help_option_names": ["-h", "--help"]})


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (hub/processes.py lists them)."""
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        code = cli.main(["--help"] if words == ["help"] else words, prog_name="tickwire", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.UsageError as error:
        hint = " ".join([error.ctx.command_path if error.ctx is not None else "tickwire", "--help"])
        click.echo(f"tickwire: {error.format_message()}\n{hint} says more", err=True)
        return 2
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:  # `| head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        from hub.errors import HubError

        if not isinstance(error, HubError):
            raise
        from hub.processes import exit_code

        click.echo(f"tickwire: {error}", err=True)
        return exit_code(error)


if __name__ == "__main__":
    sys.exit(main())
