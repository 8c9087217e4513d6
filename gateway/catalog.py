"""All venues' instruments in this worker's memory, sorted and indexed; read again from Redis when they changed.

Tens of thousands of rows: whatever goes through all of them gives way to others in between.
"""

import asyncio
from collections.abc import Callable, Iterable
from operator import attrgetter

from msgspec import Struct, structs

from hub.instrument_store import Sync
from hub.instruments import ASSET_ALIASES, Instrument
from hub.listing import DELISTED
from hub.reader import Reader

__all__ = ["Catalog", "Entry"]

CHUNK = 2000


class Entry(Struct, frozen=True):
    """A row, its place in the order of symbols and venues, and what a search for text looks at."""

    place: tuple[str, str]
    row: Instrument
    text: str


class Catalog:
    """Asked for rows it first asks Redis, in one round trip, whether they are still the newest."""

    def __init__(self, reader: Reader) -> None:
        self.entries: list[Entry] = []
        self.syncs: dict[str, Sync] = {}
        self._reader = reader
        self._venues: dict[str, list[Entry]] = {}
        self._symbols: dict[str, list[Entry]] = {}
        self._bases: dict[str, list[Entry]] = {}
        self._reading = asyncio.Lock()

    async def renew(self) -> None:
        """Bring everything up to date. Raises RedisUnavailable."""
        async with self._reading:
            syncs = await self._reader.syncs()
            before, self.syncs = self.syncs, syncs
            changed = [venue for venue, sync in syncs.items() if _differs(before.get(venue), sync)]
            gone = self._venues.keys() - syncs.keys()
            if not changed and not gone:
                return
            try:
                for venue in changed:
                    self._venues[venue] = await self._read(venue)
            except BaseException:
                self.syncs = {}  # what was read is not known: next time all of it again
                raise
            for venue in gone:
                del self._venues[venue]
            await self._index()

    async def _read(self, venue: str) -> list[Entry]:
        values = await self._reader.instrument_values(venue)
        found: list[Entry] = []
        for start in range(0, len(values), CHUNK):
            found += [_entry(row) for row in self._reader.decoded(values[start : start + CHUNK])]
            await asyncio.sleep(0)
        return found

    async def _index(self) -> None:
        entries = [entry for entries in self._venues.values() for entry in entries]
        entries.sort(key=attrgetter("place"))
        symbols: dict[str, list[Entry]] = {}
        bases: dict[str, list[Entry]] = {}
        for start in range(0, len(entries), CHUNK):
            for entry in entries[start : start + CHUNK]:
                symbols.setdefault(entry.row.symbol, []).append(entry)
                bases.setdefault(entry.row.base.upper(), []).append(entry)
            await asyncio.sleep(0)
        self.entries, self._symbols, self._bases = entries, symbols, bases

    def of_base(self, asset: str) -> list[Entry]:
        """Return what has `asset` (upper or lower case, aliases resolved) for a base, sorted."""
        name = asset.upper()
        return self._bases.get(ASSET_ALIASES.get(name, name), [])

    def of_symbols(self, symbols: Iterable[str]) -> list[Entry]:
        """Return the rows of these symbols, sorted."""
        found = [entry for symbol in symbols for entry in self._symbols.get(symbol, ())]
        return sorted(found, key=attrgetter("place"))

    async def names(self) -> list[str]:
        """Return all symbols, and let others work before and after."""
        await asyncio.sleep(0)
        return list(self._symbols)

    async def select(self, entries: list[Entry], wanted: Callable[[Entry], bool]) -> list[Entry]:
        """Return those of `entries` that are wanted."""
        found: list[Entry] = []
        for start in range(0, len(entries), CHUNK):
            found += [entry for entry in entries[start : start + CHUNK] if wanted(entry)]
            await asyncio.sleep(0)
        return found

    def shown(self, entry: Entry) -> Instrument:
        """Return the row as it is told: what is listed was seen by the last good list."""
        row, sync = entry.row, self.syncs.get(entry.row.venue)
        if row.status == DELISTED or sync is None or sync.ts is None:
            return row
        return structs.replace(row, last_seen=max(sync.ts, row.first_seen or 0))


def _differs(before: Sync | None, now: Sync) -> bool:
    return before is None or (before.version, before.count) != (now.version, now.count)


def _entry(row: Instrument) -> Entry:
    text = " ".join((row.symbol, row.name or "", row.venue_symbol)).upper()
    return Entry((row.symbol, row.venue), row, text)
