"""Where the list of instruments comes from: a file, the sessions themselves, or a session that lies beside them."""

import gzip
import logging
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from feeds.adapter import Adapter
from feeds.registry import adapter_of
from feeds.session import Session
from hub.errors import SessionError, WireError

__all__ = ["find_instruments"]

log = logging.getLogger(__name__)


def find_instruments(
    venue: str, sessions: Sequence[Session], file: str | Path | None, symbols: set[str]
) -> bytes | None:
    """Return the body that lists most of `symbols` (the venue's spelling); None where there is none.

    `file` alone counts where it is given; else bodies of `sessions`, else of sessions in the same folders, so that one
    list serves all recordings that lie together. SessionError where `file` cannot be read.
    """
    if file is not None:
        return _read(Path(file))
    adapter = adapter_of(venue)
    beside = (other for folder in {session.path.parent for session in sessions} for other in _sessions_in(folder))
    for candidates in (sessions, beside):
        best = max(_listings(adapter, candidates, symbols), key=lambda found: found[0], default=None)
        if best is not None:
            log.info("instruments file=%s listed=%d of=%d", best[2].name, best[0], len(symbols))
            return best[1]
    log.warning("no list of instruments venue=%s", venue)
    return None


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise SessionError(f"{path}: {error}") from error


def _sessions_in(folder: Path) -> Iterator[Session]:
    for path in sorted(folder.iterdir()):
        if (path / "rest_index.jsonl").is_file():
            try:
                yield Session(path)
            except SessionError as error:
                log.warning("session beside skipped %s", error)


def _listings(
    adapter: type[Adapter], sessions: Iterable[Session], symbols: set[str]
) -> Iterator[tuple[int, bytes, Path]]:
    """Yield (how many of `symbols` it lists, body, file) of each readable list of instruments."""
    wanted = {fetch.resource for fetch in adapter.instruments_fetches()}
    for session in sessions:
        for body in session.bodies:
            if adapter.resource_of(body.url)[0] not in wanted:
                continue
            try:
                data = body.read()
                listed = {row.venue_symbol for row in adapter.parse_instruments(data)}
            except (SessionError, WireError) as error:
                log.warning("list of instruments skipped %s", error)
                continue
            yield len(listed & symbols), data, body.path
