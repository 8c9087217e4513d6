"""Whose turn it is to tell the trades of one symbol while two connections carry it. Pure.

During a rotation the old connection goes on and the next one is held back: so trades come once and in order, whichever
of the two is faster. What the old one never brought is told when it is done.
"""

from typing import Generic, TypeVar

__all__ = ["HELD_MAX", "Turns"]

S = TypeVar("S")
E = TypeVar("E")

#: More than this is not held: the next connection takes its turn.
HELD_MAX = 50_000


class Turns(Generic[S, E]):
    """`owner` tells, None: whoever comes first. `held` is what the other one brought so far, by the event's name."""

    __slots__ = ("held", "owner")

    def __init__(self) -> None:
        self.owner: S | None = None
        self.held: dict[str, E] = {}

    def pass_on(self, source: S | None) -> list[E]:
        """Make `source` the owner; returns what was held, in order."""
        self.owner = source
        waiting = list(self.held.values())
        self.held = {}
        return waiting
