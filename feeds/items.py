"""Lists in one frame: where one item cannot be read, the others still count."""

from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw

__all__ = ["Items"]

T = TypeVar("T")

_split = msgspec.json.Decoder(list[Raw]).decode


class Items(Generic[T]):
    """Decodes lists of one type. Called with JSON it returns (items, how many could not be read)."""

    __slots__ = ("_all", "_one")

    def __init__(self, kind: type[T]) -> None:
        listed: Any = list[kind]  # type: ignore[valid-type]  # a type made at run time
        self._all = msgspec.json.Decoder(listed, strict=False).decode
        self._one = msgspec.json.Decoder(kind, strict=False).decode

    def __call__(self, data: Raw | bytes) -> tuple[list[T], int]:
        """ValueError where `data` is no list, or nothing in it can be read."""
        try:
            return self._all(data), 0
        except ValueError:
            parts = _split(data)
            if len(parts) < 2:
                raise
            found = [item for part in parts if (item := self._try(part)) is not None]
            if not found:
                raise
            return found, len(parts) - len(found)

    def _try(self, part: Raw) -> T | None:
        try:
            return self._one(part)
        except ValueError:
            return None
