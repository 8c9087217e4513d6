"""What a publisher holds while Redis is away, bounded. Pure."""

from collections.abc import Iterable

from hub.batch import Item, Withdrawal
from hub.model import Message, is_event, kind_of

__all__ = ["compacted"]


def compacted(items: Iterable[Item], bound: int) -> tuple[list[Item], int]:
    """Return what is worth keeping of `items`, in an order that has the same effect, and how many events were dropped.

    Of state kinds that is the newest of each channel, of events the last `bound`. A withdrawal is never dropped: what
    it takes away must not come back.
    """
    states: dict[tuple[str, str], Item] = {}
    events: list[Item] = []
    for item in items:
        if isinstance(item, Message) and not is_event(kind_of(item)):
            states[kind_of(item), item.symbol] = item
        elif isinstance(item, Withdrawal) and not is_event(item.kind):
            states[item.kind, item.symbol] = item
        else:
            events.append(item)
    excess = sum(not isinstance(item, Withdrawal) for item in events) - bound
    if excess > 0:
        withdrawn = {(item.kind, item.symbol): item for item in events if isinstance(item, Withdrawal)}
        kept = [item for item in events if not isinstance(item, Withdrawal)][excess:]
        events = [*withdrawn.values(), *kept]
    return [*events, *states.values()], max(0, excess)
