"""`tickwire completion SHELL`: the script that makes the shell complete commands and options."""

import argparse
from collections.abc import Sequence

from click.shell_completion import get_completion_class

from hub.cli.main import cli

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tickwire completion", description=__doc__)
    parser.add_argument("shell", choices=["bash", "zsh", "fish"])
    shell = get_completion_class(parser.parse_args(argv).shell)
    assert shell is not None
    print(shell(cli, {}, "tickwire", "_TICKWIRE_COMPLETE").source())
    return 0
