"""What is known of one symbol's candles when its feed ends. Where it is kept is feeds/candle_store.py."""

from msgspec import Struct

from hub.candles import SavedCandles

__all__ = ["OpenCandles"]


class OpenCandles(Struct, frozen=True):
    """One symbol's open candles and their position: the newest trade counted, its time (int ns) and number.

    `last_id` is None where the venue does not number trades without holes; `trade_ids` are the last ids of any kind.
    """

    candles: SavedCandles
    trade_at: int
    last_id: int | None
    trade_ids: list[str]

    @property
    def since(self) -> int:
        """Return from when on trades may be missing, int ns."""
        return max((begin for begin, _ in (*self.candles.gaps, *self.candles.doubts)), default=0)
