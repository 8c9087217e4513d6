"""What changed between what is known of a venue's instruments and the list it answered now. Pure.

A list that misses much of what was there is not believed: it may be partial. What it has counts, what it lacks does
not. Dated instruments that have expired are expected to go.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct, structs

from hub.instruments import Instrument
from hub.intervals import NS_PER_S

__all__ = ["DELISTED", "Change", "Merged", "merge"]

DELISTED = "delisted"
#: A list may lack so much of what has not expired, and so many in any case.
GONE_PART, GONE_FEW = 0.3, 5
#: What is listed no more is kept for so long.
KEPT_NS = 30 * 86_400 * NS_PER_S

_SEEN = ("first_seen", "last_seen")


class Change(Struct, frozen=True):
    """One instrument's: `changes` are names of fields, `ts` is int ns."""

    action: Literal["listed", "delisted", "changed"]
    changes: list[str]
    instrument: Instrument
    ts: int

    @property
    def fields(self) -> dict[str, str | float | int | None]:
        """Return the row as a `listing` message carries it."""
        row: dict[str, Any] = msgspec.to_builtins(self.instrument)
        return row


class Merged(Struct, frozen=True):
    """`rows` are to be written, `forgotten` symbols to be removed; `doubt` says why the list was not believed whole."""

    rows: list[Instrument]
    forgotten: list[str]
    changes: list[Change]
    doubt: str


def merge(
    known: Mapping[str, Instrument],
    listed: Iterable[Instrument],
    now: int,
    *,
    seen_before: int | None = None,
    expected: Callable[[Instrument], bool] | None = None,
) -> Merged:
    """Compare `known` (by symbol) with `listed` at `now` (int ns).

    `seen_before` is the time of the list before; without one there is nothing to call a change. `expected` tells what
    should be on a list; None: `listed` is no list but some rows, so that nothing can be missing or is news.
    """
    current = {row.symbol: row for row in listed}
    rows: list[Instrument] = []
    changes: list[Change] = []
    for row in current.values():
        old = known.get(row.symbol)
        new = structs.replace(row, first_seen=old.first_seen or now if old is not None else now, last_seen=None)
        names = _differences(old, new) if old is not None else []
        if old is not None and not names and old.first_seen is not None and old.last_seen is None:
            continue
        rows.append(new)
        if old is None or old.status == DELISTED:
            changes.append(Change("listed", [], new, now))
        elif names:
            changes.append(Change("changed", names, new, now))
    if expected is None:
        return Merged(rows, [], [], "")
    living = [row for row in known.values() if row.status != DELISTED and expected(row)]
    gone = [row for row in living if row.symbol not in current]
    doubt = _doubt(living, gone, current, now)
    if not doubt:
        for row in gone:
            left = structs.replace(row, status=DELISTED, last_seen=seen_before or row.first_seen or now)
            rows.append(left)
            changes.append(Change("delisted", ["status"], left, now))
    old_rows = (row for row in known.values() if row.status == DELISTED and row.symbol not in current)
    forgotten = [row.symbol for row in old_rows if now - (row.last_seen or now) > KEPT_NS]
    return Merged(rows, forgotten, changes if seen_before is not None else [], doubt)


def _differences(old: Instrument, new: Instrument) -> list[str]:
    fields = (field for field in Instrument.__struct_fields__ if field not in _SEEN)
    return [field for field in fields if getattr(old, field) != getattr(new, field)]


def _doubt(living: list[Instrument], gone: list[Instrument], current: Mapping[str, Instrument], now: int) -> str:
    if not current:
        return "the list is empty"
    unexpired = [row for row in gone if row.expiry is None or row.expiry > now]
    if len(unexpired) > max(GONE_FEW, GONE_PART * len(living)):
        return f"the list lacks {len(unexpired)} of {len(living)}: it may be partial, so nothing is delisted"
    return ""
