"""One channel of the archive: what was read of its log and is not in a file yet. No I/O but that of `flush`."""

import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import msgspec

from hub.archive.files import ChannelFiles, FileName, Gap
from hub.archive.schema import table_of
from hub.intervals import NS_PER_S
from hub.keys import Channel
from hub.link import pack
from hub.model import Candle, Message, decode, kind_of
from hub.position import Position, follows, format_position, parse_position

__all__ = ["Tail"]

logger = logging.getLogger(__name__)


class Tail:
    """Reads the log `key` of `channel` from behind what `files` hold, and writes what came into further files.

    `log_length` is how many entries the log keeps for certain: half of that is written at the latest, so that a crash
    finds the rest still there.
    """

    PAGE = 256

    def __init__(self, channel: Channel, key: str, files: ChannelFiles, log_length: int) -> None:
        self.channel, self.key, self.files = channel, key, files
        self.rows_max = max(1, log_length // 2)
        self.read: Position | None = files.last()
        """Position of the last event read; None before the first."""
        self.since = 0.0
        """When (monotonic) the oldest event came that is not in a file."""
        self.size = 0
        """Bytes waiting."""
        self.doubt: tuple[Position, Position] | None = None
        """Events between these may be missing: a new epoch hides it. `settle` decides."""
        self.written = self.unreadable = self.gaps = 0
        self._waiting: list[tuple[Position, bytes]] = []
        self._gaps: list[Gap] = []

    @property
    def rows(self) -> int:
        return len(self._waiting)

    def command(self) -> bytes:
        """Return the command that reads the next entries."""
        start = "-" if self.read is None else f"({format_position(self.read)}"
        return pack("XRANGE", self.key, start, "+", "COUNT", self.PAGE)

    def take(self, entries: Sequence[tuple[bytes, Sequence[bytes]]], now: float) -> bool:
        """Take a reply to `command`; returns whether there may be more."""
        for entry, fields in entries:
            position = parse_position(entry.decode())
            if self.read is not None and not follows(self.read, position):
                lost = position[1] - self.read[1] - 1 if position[0] == self.read[0] else None
                self._gap(self.read, position, lost)
            elif self.read is not None and position[0] != self.read[0] and not self._waiting_reaches(entries, entry):
                self.doubt = (self.read, position)
            self.read = position
            if not self._waiting:
                self.since = now
            payload = dict(zip(fields[::2], fields[1::2], strict=False)).get(b"payload", b"")
            self._waiting.append((position, payload))
            self.size += len(payload)
        return len(entries) == self.PAGE

    @staticmethod
    def _waiting_reaches(entries: Sequence[tuple[bytes, Sequence[bytes]]], entry: bytes) -> bool:
        """Tell whether the entry before `entry` came in the same reply: then nothing is between them."""
        return entries[0][0] != entry

    def settle(self, *, still_there: bool) -> None:
        """Decide a doubt: where the log still holds the last event read before it, nothing was between."""
        if self.doubt is not None and not still_there:
            self._gap(*self.doubt, None)
        self.doubt = None

    def _gap(self, after: Position, before: Position, lost: int | None) -> None:
        self.gaps += 1
        gap = Gap(format_position(after), format_position(before), lost)
        self._gaps.append(gap)
        logger.warning(
            "gap in the archive channel=%s after=%s before=%s lost=%s",
            self.channel.name, gap.after, gap.before, "unknown" if lost is None else lost,
        )  # fmt: skip

    def flush(self) -> set[Path]:
        """Write what waits; returns the folders written to. OSError where that fails: the rest still waits."""
        if not self._waiting:
            return set()
        folders = set()
        for date, run in groupby(list(self._readable()), key=lambda row: _date(row[1])):
            part = list(run)
            table = table_of(self.channel.kind, [message for _, message in part])
            name = FileName(part[0][0], part[-1][0])
            folders.add(self.files.write(table, date, name))
            self.written += len(part)
            self._waiting = [row for row in self._waiting if row[0] > name.last]
        self.files.note(self.read or (0, 0), self._gaps)
        self._waiting, self._gaps, self.size = [], [], 0
        return folders

    def _readable(self) -> Iterable[tuple[Position, Message]]:
        for position, payload in self._waiting:
            try:
                message = decode(payload)
                if kind_of(message) != self.channel.kind:
                    raise msgspec.ValidationError(f"a message of kind {kind_of(message)}")
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self.unreadable += 1
                text = format_position(position)
                self._gaps.append(Gap(text, None, 1))
                logger.warning("unreadable event channel=%s id=%s error=%s", self.channel.name, text, error)
                continue
            yield position, message


def _date(message: Message) -> str:
    """Return the UTC date of an event: a candle's start, the venue's time, else ours."""
    ts = message.ts_recv if message.ts_event is None else message.ts_event
    ts = message.start if isinstance(message, Candle) else ts
    return datetime.fromtimestamp(ts // NS_PER_S, UTC).strftime("%Y-%m-%d")
