"""Series of one channel side by side, read page by page."""

from collections.abc import AsyncIterator, Sequence
from typing import TypeAlias

from hub.history import Query
from hub.reader import Reader

__all__ = ["Point", "PointReader"]

#: Points read of each series at once.
PAGE = 1000
#: Points made of nothing at once, where gaps are filled.
FILL_PAGE = 1000

Point: TypeAlias = list[int | float | None]
"""[ms, value of each series]"""


class PointReader:
    """Points of `start_ms..end_ms` inclusive, the first `limit`. `fill`: buckets without values between two that have
    some are there, too. `last_ms` is the last point's time; `next_ms`, known at the end, that of the first one left."""

    def __init__(
        self, reader: Reader, queries: Sequence[Query], start_ms: int, end_ms: int, limit: int, *, fill: bool
    ) -> None:
        self._reader, self._queries, self._limit = reader, queries, limit
        self._start, self._end, self._fill = start_ms, end_ms, fill
        self._bucket = queries[0].bucket_ms
        self.last_ms: int | None = None
        self.next_ms: int | None = None

    async def pages(self) -> AsyncIterator[list[Point]]:
        """Yield points oldest first, at least one page, which may be empty."""
        left = self._limit
        async for page in self._filled() if self._fill else self._stored():
            if len(page) > left:
                self.next_ms = int(page[left][0] or 0)
            rows = page[:left]
            left -= len(rows)
            if rows:
                self.last_ms = int(rows[-1][0] or 0)
            yield rows
            if self.next_ms is not None:
                return

    async def _stored(self) -> AsyncIterator[list[Point]]:
        position, step = self._start, max(1, self._bucket)
        while True:
            found = await self._reader.series(self._queries, position, self._end, PAGE)
            cut = [points[-1][0] for points in found if len(points) == PAGE]
            stop = min(cut, default=self._end)
            columns = [dict(points) for points in found]
            times = sorted({ts for points in found for ts, _ in points if ts <= stop})
            yield [[ts, *(column.get(ts) for column in columns)] for ts in times]
            if not cut:
                return
            position = stop + step

    async def _filled(self) -> AsyncIterator[list[Point]]:
        """Yield what is stored with nulls in between, in pages of a bounded size."""
        expected: int | None = None
        nothing: list[int | float | None] = [None] * len(self._queries)
        async for page in self._stored():
            rows: list[Point] = []
            for row in page:
                ts = int(row[0] or 0)
                while expected is not None and expected < ts:
                    rows.append([expected, *nothing])
                    expected += self._bucket
                    if len(rows) >= FILL_PAGE:
                        yield rows
                        rows = []
                rows.append(row)
                expected = ts + self._bucket
            yield rows
