"""The command `tickwire`: its subcommands, their exit codes, and what is not shown."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from feeds.registry import VENUES as REGISTERED
from hub.cli.console import Console
from hub.cli.main import COMMANDS, VENUES, main
from hub.embedded import EmbeddedRedis
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[3]


def tickwire(*argv: str, cwd: Path = ROOT, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "hub.cli.main", *argv],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("argv", [[], ["--help"], ["help"]])
def test_help_lists_every_command(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    output = capsys.readouterr().out
    assert all(f"tickwire {name} " in output for name in COMMANDS)


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fly"]) == 2
    assert "there is no command 'fly'" in capsys.readouterr().err


def test_config_check_shows_what_is_in_force_without_passwords(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text("[gateway]\nport = 9001\n[venues.binance]\nsymbols = ['BTC-USDT']\n")
    result = tickwire("config", "check", cwd=tmp_path, TICKWIRE_REDIS__URL="redis://user:secret@host/0")
    assert result.returncode == 0
    assert "gateway.port = 9001\n" in result.stdout
    assert 'redis.url = "redis://user:***@host/0"\n' in result.stdout
    assert 'venues.binance.symbols = ["BTC-USDT"]\n' in result.stdout
    assert result.stdout.endswith("The configuration is valid.\n")


def test_config_check_of_a_wrong_file(tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text("[gateway]\nprot = 9001\n")
    result = tickwire("config", "check", "--config", "wrong.toml", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "tickwire: unknown setting gateway.prot; did you mean gateway.port?\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[venues.binanse]\nenabled = false\n", "there is no venue 'binanse'; known: alpaca, "),
        ("[venues.binance]\nfeed = 'fast'\n", "venues.binance.feed = 'fast' does not exist"),
        ("[consolidator]\nanalytics = ['vwapp']\n", "there is no measure 'vwapp'; did you mean 'vwap'?"),
    ],
)
def test_config_check_knows_venues_and_measures(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "hub.toml").write_text(text)
    result = tickwire("config", "check", cwd=tmp_path)
    assert result.returncode == 2 and said in result.stderr and result.stdout == ""


def test_config_check_tells_of_keys_that_are_missing(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[venues.alpaca]\nsymbols = ['AAPL']\n")
    result = tickwire("config", "check", "--config", "mine.toml", cwd=tmp_path, ALPACA_KEY_ID="x", ALPACA_SECRET_KEY="")
    assert result.returncode == 0
    assert result.stdout.endswith("valid.\nNot in the environment, and venue alpaca needs it: ALPACA_SECRET_KEY\n")


def test_redis_cli_reaches_the_configured_redis(tmp_path: Path, redis_server: EmbeddedRedis) -> None:
    result = tickwire("redis-cli", "SET", "some key", "x", cwd=tmp_path, TICKWIRE_REDIS__URL=redis_server.url)
    assert (result.returncode, result.stdout) == (0, "OK\n")


async def test_redis_cli_reaches_the_embedded_redis_wherever_it_listens(tmp_path: Path) -> None:
    port = str(free_port())  # what is configured; `up` had to take another one
    async with EmbeddedRedis(tmp_path / "data" / "redis-demo"):
        result = tickwire("redis-cli", "PING", cwd=tmp_path, TICKWIRE_REDIS__PORT=port)
    assert (result.returncode, result.stdout) == (0, "PONG\n")


def test_redis_cli_gets_the_password_but_not_as_an_option(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("redis-server", "redis-cli"):
        (folder / name).write_text('#!/bin/sh\necho "$REDISCLI_AUTH" "$@"\n')
        (folder / name).chmod(0o755)
    env = {"PATH": f"{folder}:{os.environ['PATH']}", "TICKWIRE_REDIS__SERVER": "path"}
    url = "rediss://user:pass%20word@host:7000/3"
    result = tickwire("redis-cli", "GET", "x", cwd=tmp_path, TICKWIRE_REDIS__URL=url, **env)
    assert result.stdout == "pass word -h host -p 7000 --tls --user user -n 3 GET x\n"
    result = tickwire("redis-cli", cwd=tmp_path, TICKWIRE_REDIS__URL="unix:///run/redis.sock", **env)
    assert result.stdout == " -s /run/redis.sock\n"


def test_a_command_of_another_package_keeps_its_output_and_exit_code(tmp_path: Path) -> None:
    package = tmp_path / "feeds"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "normalize.py").write_text("import sys\nprint(sys.argv[1:])\nsys.exit(6)\n")
    result = tickwire("normalize", "binance", "some dir", "--instruments", "x", cwd=tmp_path, PYTHONPATH=f"{ROOT}")
    assert result.returncode == 6
    assert result.stdout == "['binance', 'some dir', '--instruments', 'x']\n"


def test_a_reader_that_goes_away_is_no_crash() -> None:
    command = f"{sys.executable} -m hub.cli.main config check | head -1"
    result = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.stdout == 'redis.url = ""\n'
    assert result.stderr == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_of_parts_are_told_apart() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        console = Console(stream)
        console.line("redis", "ready")
        console.line("gateway", '{"level":"info"}')
    first, second = terminal.getvalue().splitlines()
    assert first.endswith("redis |\033[0m ready")
    assert first[:5] != second[:5]
    # Elsewhere JSON stays JSON: the line names its process itself.
    assert pipe.getvalue() == 'redis | ready\n{"level":"info"}\n'


def test_a_closed_terminal_does_not_stop_the_output_of_others() -> None:
    stream = io.StringIO()
    console = Console(stream)
    stream.close()
    console.line("redis", "ready")
    console.say("x")
    console.complain("x")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_its_examples(name: str) -> None:
    result = tickwire(name, "--help") if name != "redis-cli" else None
    if result is not None:
        assert result.returncode == 0, result.stderr
        for line in COMMANDS[name].examples:
            assert line in result.stdout
        if COMMANDS[name].run is not None:  # completion offers what the command's own parser has
            usage = result.stdout.partition("\nexamples:")[0]
            assert {*re.findall(r"^  (?:-h, )?(--[a-z-]+)", usage, re.MULTILINE)} == {*COMMANDS[name].options, "--help"}
    assert COMMANDS[name].examples and all(line.startswith("tickwire ") for line in COMMANDS[name].examples)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_commands_and_options(shell: str) -> None:
    script = tickwire("completion", shell)
    assert script.returncode == 0 and f"_TICKWIRE_COMPLETE={shell}_complete" in script.stdout
    env = {"_TICKWIRE_COMPLETE": f"{shell}_complete", "COMP_WORDS": "tickwire qu", "COMP_CWORD": "1"}
    if shell == "fish":
        env |= {"COMP_WORDS": "tickwire qu", "COMP_CWORD": "qu"}
    assert "quote" in tickwire(cwd=ROOT, **env).stdout
    env |= {"COMP_WORDS": "tickwire candles --int", "COMP_CWORD": "--int" if shell == "fish" else "2"}
    assert "--interval" in tickwire(cwd=ROOT, **env).stdout


def test_completion_of_commands_with_a_parser_of_their_own() -> None:
    def completed(words: str) -> list[str]:
        count = len(words.split(" ")) - 1
        env = {"_TICKWIRE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}
        return tickwire(cwd=ROOT, **env).stdout.split()

    assert completed("tickwire up --") == ["plain,--demo", "plain,--config", "plain,--help"]
    assert completed("tickwire token --max-c") == ["plain,--max-connections"]
    assert completed("tickwire normalize bin") == ["plain,binance", "plain,binance_futures"]
    assert completed("tickwire replay binance some") == ["file,some"]
    assert completed("tickwire replay binance x --sh") == ["plain,--shift"]
    assert completed("tickwire config ") == ["plain,check"]


def test_completion_names_every_venue() -> None:
    assert set(REGISTERED) == set(VENUES)


def test_the_overview_imports_nothing_heavy() -> None:
    heavy = ["aiohttp", "asyncio", "msgspec", "pandas", "redis", "rich"]
    code = (
        "import sys; from hub.cli.main import main; main(['--help']); "
        f"print(sorted(set({heavy}) & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.stderr == "[]\n"
