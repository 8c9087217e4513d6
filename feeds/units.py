"""The venue's decimal text as canonical numbers: contracts to the instrument's unit, text that may be empty. Pure.

Floats are never multiplied: a product is exact in decimals and rounded once, so that it is the number the text says.
"""

from decimal import Decimal
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from hub.model import Price, Side, Size

__all__ = ["SIDES", "PositiveLevel", "PositivePrice", "SizesOf", "number", "product", "size_of"]

PositivePrice: TypeAlias = Annotated[float, Meta(gt=0, lt=1e30)]
"""A price where the venue trades nothing below zero."""
PositiveLevel: TypeAlias = tuple[PositivePrice, Size]
"""(price, size)"""
#: A venue's word for the aggressor, where it is ours; one that is none of these says nothing.
SIDES: Final[dict[str, Side]] = {"buy": "buy", "sell": "sell"}


def number(text: str | None) -> float | None:
    """Read a number; None where the venue leaves the field out or empty. ValueError for anything else."""
    if not text:
        return None
    value: float = msgspec.convert(text, Price, strict=False)
    return value


def product(*texts: str) -> Decimal:
    """Multiply decimal texts exactly; an empty one counts as 1. ValueError where one is no positive number."""
    result = Decimal(1)
    for text in texts:
        if text:
            if not msgspec.convert(text, Size, strict=False):
                raise ValueError(f"{text!r} is not above 0")
            result *= Decimal(text)
    return result


def size_of(text: str, factor: Decimal) -> float:
    """Return `text` times `factor`; ValueError where `text` is no size."""
    msgspec.convert(text, Size, strict=False)
    return float(Decimal(text) * factor)


class SizesOf(dict[str, float]):
    """Sizes of one contract by the venue's text: `sizes[text]` multiplies once and remembers."""

    KEPT = 50_000

    def __init__(self, factor: float) -> None:
        """`factor` as in Instrument.contract_size: its shortest text is the venue's decimal."""
        super().__init__()
        self._factor = Decimal(repr(factor))
        self._over, self._under = self._factor.as_integer_ratio()

    def __missing__(self, text: str) -> float:
        if len(self) >= self.KEPT:
            self.clear()
        whole, point, fraction = text.partition(".")
        digits = whole + fraction
        if digits.isdecimal() and digits.isascii() and len(digits) < 24 and whole and (fraction or not point):
            # The quotient of whole numbers is rounded once as well, and a decimal takes several times as long.
            value: float = int(digits) * self._over / (self._under * 10 ** len(fraction))
        else:
            value = size_of(text, self._factor)
        self[text] = value
        return value
