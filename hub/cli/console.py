"""What a terminal program prints: its own messages, and the lines of the parts it runs, each with the part's name."""

import sys
from contextlib import suppress
from typing import Final, TextIO

__all__ = ["Console"]

_COLOURS: Final = ("\033[36m", "\033[35m", "\033[34m", "\033[32m", "\033[33m", "\033[96m")
_BOLD, _RED, _RESET = "\033[1m", "\033[31m", "\033[0m"


class Console:
    """Colours on a terminal only. Elsewhere a line that is JSON already names its process and stays as it is."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self.is_terminal = self._stream.isatty()
        self._colours: dict[str, str] = {}
        self._width = 4

    def line(self, name: str, text: str) -> None:
        """Print one line of the part `name`."""
        if not self.is_terminal:
            self._print(text if text.startswith("{") else f"{name} | {text}")
            return
        self._width = max(self._width, len(name))
        colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
        self._print(f"{colour}{name:<{self._width}} |{_RESET} {text}")

    def say(self, text: str) -> None:
        """Print what the user should read."""
        for line in text.splitlines():
            self._print(f"{_BOLD}{line}{_RESET}" if self.is_terminal else line)

    def complain(self, text: str) -> None:
        """Print what went wrong."""
        for line in text.splitlines():
            self._print(f"{_RED}{line}{_RESET}" if self.is_terminal else line)

    def _print(self, text: str) -> None:
        # A reader that went away must not stop the draining of the parts' pipes, which would block them.
        with suppress(OSError, ValueError):
            print(text, file=self._stream, flush=True)
