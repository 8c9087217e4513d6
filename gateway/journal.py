"""Log lines about who comes in, who is refused and who is thrown out.

Never a token, and never more than a few a second: whoever floods the gateway must not flood its log as well.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Journal"]

logger = logging.getLogger(__name__)

LINES_PER_S: Final = 20
TEXT_MAX: Final = 100


class Journal:
    """`clock` is monotonic, in s."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._lines = self._omitted = 0

    def note(self, event: str, *, bad: bool = True, **fields: object) -> None:
        """Log `event`; values are quoted, because clients choose some of them. `bad`: somebody was refused."""
        now = self._clock()
        if now - self._began >= 1:
            self._began, self._lines = now, 0
        if self._lines >= LINES_PER_S:
            self._omitted += 1
            return
        self._lines += 1
        if self._omitted:
            fields["omitted_before"], self._omitted = self._omitted, 0
        text = " ".join(f"{name}={_quoted(value)}" for name, value in fields.items() if value is not None)
        logger.log(logging.WARNING if bad else logging.INFO, "%s %s", event, text)


def _quoted(value: object) -> str:
    return repr(value[:TEXT_MAX]) if isinstance(value, str) else str(value)
