"""What is common to venues that are polled: no stream, answers given again as they were recorded, times included."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from feeds.dialects.base import Answer, Conversation, Dialect, Item, Lap, Reading, Refused, Timeline

__all__ = ["PolledDialect"]


class PolledDialect(Dialect):
    """Keeps recorded bodies by what was asked for; the last one of each is given for ever."""

    @abstractmethod
    def add_body(self, resource: str, symbol: str, url: str, data: bytes) -> tuple[tuple[str, int], ...]: ...

    @abstractmethod
    def rest(self, path: str, query: Mapping[str, str]) -> Answer: ...

    def read(self, payload: bytes, binary: bool) -> Reading | None:
        return None

    def attach(self, symbols: Sequence[str], timeline: Timeline) -> None:
        """Nothing: no answer depends on it."""

    def begin(self, symbols: Sequence[str]) -> None:
        """Nothing is built."""

    def play(self, item: Item, lap: Lap) -> list[bytes]:
        return []

    def conversation(self, path: str, query: Mapping[str, str]) -> Conversation:
        raise Refused("there are no streams", 404)

    def weight(self, path: str, query: Mapping[str, str]) -> int:
        return 1
