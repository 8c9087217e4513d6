"""Whether what the hub says has the shape of an example: the same fields in the same order, of the same types."""

from typing import Any, Final

__all__ = ["OPEN", "differences"]

#: Objects whose keys are names (of venues, kinds, counters …) and not fields; `x[]`: items of x.
OPEN: Final = frozenset({
    "analytics", "ask_venues[]", "bid_venues[]", "channels", "counters", "kinds", "last", "latency", "refused",
})  # fmt: skip


def differences(example: Any, live: Any, nullable: set[str], where: str = "", key: str = "") -> list[str]:
    """Return where `live` is not like `example`; null and a value are alike only in fields that are `nullable`."""
    if example is None or live is None:
        if example is live or key.rstrip("[]") in nullable:
            return []
        return [f"{where or 'it'}: {_kind(live)} where the example has {_kind(example)}"]
    if type(example) is not type(live):
        return [f"{where or 'it'}: {_kind(live)} where the example has {_kind(example)}"]
    if isinstance(example, dict):
        return (
            _in_names(example, live, nullable, where, key)
            if key in OPEN
            else _in_fields(example, live, nullable, where)
        )
    if isinstance(example, list):
        return _in_list(example, live, nullable, where, key)
    return []


def _in_fields(example: dict[str, Any], live: dict[str, Any], nullable: set[str], where: str) -> list[str]:
    missing, further = [name for name in example if name not in live], [name for name in live if name not in example]
    found = [f"{where}.{name}: only in the example" for name in missing]
    found += [f"{where}.{name}: not in the example" for name in further]
    if not found and list(example) != list(live):
        found.append(f"{where or 'it'}: in another order than {', '.join(live)}")
    for name in example.keys() & live.keys():
        found += differences(example[name], live[name], nullable, f"{where}.{name}", name)
    return found


def _in_names(example: dict[str, Any], live: dict[str, Any], nullable: set[str], where: str, key: str) -> list[str]:
    return _any_of(list(example.values()), list(live.values()), nullable, where, f"{key}[]")


def _in_list(example: list[Any], live: list[Any], nullable: set[str], where: str, key: str) -> list[str]:
    scalars = not any(isinstance(item, dict | list) for item in example)
    if scalars and len({type(item) for item in example}) > 1 and len(example) == len(live):
        pairs = zip(example, live, strict=True)
        return [line for one, other in pairs for line in differences(one, other, nullable, f"{where}[]", f"{key}[]")]
    return _any_of(example, live, nullable, f"{where}[]", f"{key}[]")


def _any_of(examples: list[Any], live: list[Any], nullable: set[str], where: str, key: str) -> list[str]:
    """Return what is wrong with the first of `live` that is like none of `examples`."""
    if live and not examples:
        return [f"{where}: the example shows none"]
    for item in live:
        found = [differences(each, item, nullable, where, key) for each in examples]
        if all(found):
            return min(found, key=len)
    return []


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
