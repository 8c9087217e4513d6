"""A recorded book of HTX, and what it is in each of the forms that clients may want."""

from typing import Any, ClassVar, Final

import msgspec

__all__ = ["RecordedBook"]

#: Numbers left out between two laps: the first book of one does not follow from the last one before.
HOLE: Final = 1000

_encode = msgspec.json.encode
Sides = tuple[dict[float, float], dict[float, float]]


class RecordedBook:
    """The book of one symbol. Changes are counted here, where the recording has none: `count` is the last number."""

    FORMS: ClassVar[tuple[str, ...]] = ("depth.step0", "mbp.150", "bbo", "depth.size_150.high_freq")

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.sides: Sides = ({}, {})
        self.count = HOLE
        self.known = False

    def reset(self) -> None:
        self.sides = ({}, {})
        self.count += HOLE
        self.known = False

    def play(self, channel: str, frame: dict[str, Any], *, quotes: bool) -> dict[str, bytes]:
        """Take what was recorded; returns topic -> frame of the forms that follow from it."""
        tick = frame["data"] if "rep" in frame else frame["tick"]
        new: Sides = _side(tick.get("bids")), _side(tick.get("asks"))
        if channel != "depth.step0":
            if "rep" in frame or tick.get("event") == "snapshot":
                self.sides = new
                self.known = True
            else:
                self._apply(new)
            self.count = int(tick.get("seqNum", tick.get("version", 0)))
            return {}
        first, self.known = not self.known, True
        bids, asks = (_changes(old, now) for old, now in zip(self.sides, new, strict=True))
        self.sides = new
        self.count += 1
        ts = frame["ts"]
        ticks: dict[str, Any] = {
            "mbp.150": {"seqNum": self.count, "prevSeqNum": self.count - 1, "bids": bids, "asks": asks},
            "depth.size_150.high_freq": self.counted("snapshot" if first else "update", bids, asks, ts),
        }
        if quotes:
            ticks["bbo"] = self._best(ts)
        topics = {f"market.{self.symbol}.{form}": tick for form, tick in ticks.items()}
        return {topic: _encode({"ch": topic, "ts": ts, "tick": tick}) for topic, tick in topics.items()}

    def _apply(self, changes: Sides) -> None:
        for side, levels in zip(self.sides, changes, strict=True):
            for price, size in levels.items():
                side[price] = size
                if not size:
                    del side[price]

    def levels(self) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        """Return bids and asks, best first."""
        return sorted(self.sides[0].items(), reverse=True), sorted(self.sides[1].items())

    def counted(self, event: str, bids: Any, asks: Any, ts: int) -> dict[str, Any]:
        """Return a tick of the numbered form (`ts` unix ms)."""
        channel = f"market.{self.symbol}.depth.size_150.high_freq"
        numbers = {"id": self.count, "mrid": self.count, "ts": ts, "version": self.count}
        return {"asks": asks, "bids": bids, "ch": channel, "event": event, **numbers}

    def _best(self, ts: int) -> dict[str, Any]:
        bids, asks = self.levels()
        bid, ask = bids[0] if bids else None, asks[0] if asks else None
        if self.symbol != self.symbol.lower():
            return {"mrid": self.count, "id": ts // 1000, "bid": bid, "ask": ask, "ts": ts, "version": self.count}
        named = {"bid": bid[0], "bidSize": bid[1]} if bid is not None else {}
        named |= {"ask": ask[0], "askSize": ask[1]} if ask is not None else {}
        return {"seqId": self.count, **named, "quoteTime": ts, "symbol": self.symbol}


def _side(levels: list[list[float]] | None) -> dict[float, float]:
    return {float(price): float(size) for price, size in levels or ()}


def _changes(old: dict[float, float], new: dict[float, float]) -> list[tuple[float, float]]:
    gone = [(price, 0.0) for price in old if price not in new]
    return gone + [(price, size) for price, size in new.items() if old.get(price) != size]
