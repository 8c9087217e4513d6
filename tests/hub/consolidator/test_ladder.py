"""hub/consolidator/ladder.py: what is kept up to date equals what a look at everything gives."""

from math import fsum

from hypothesis import given
from hypothesis import strategies as st

from hub.consolidator.health import Source
from hub.consolidator.ladder import Best, Ladder
from hub.model import Level

SOURCES = [Source("a", "X"), Source("b", "X"), Source("c", "X"), Source("c", "Y")]
prices = st.sampled_from([1.0, 1.1, 1.2, 1.3, 1.4, 2.0])
sizes = st.sampled_from([0.1, 0.2, 0.30000000000000004, 1e9, 3.0])
changes = st.tuples(st.sampled_from(range(4)), st.none() | prices, st.none() | sizes)


@given(st.sampled_from([1, -1]), st.lists(changes, max_size=40))
def test_the_best_is_the_best_of_all(sign: int, steps: list[tuple[int, float | None, float | None]]) -> None:
    best, known = Best(sign), dict[Source, tuple[float, float | None]]()
    for number, price, size in steps:
        source = SOURCES[number]
        best.set(source, price, size)
        known.pop(source, None)
        if price is not None:
            known[source] = price, size
        wanted = min(known, key=lambda s: (-sign * known[s][0], -(known[s][1] or 0.0), s.venue, s.symbol), default=None)
        assert best.source is wanted
        assert (best.price, best.size) == (known[wanted] if wanted is not None else (None, None))


sides = st.dictionaries(prices, st.sampled_from([0.0, 0.1, 0.2, 0.3, 1e9, 7.0]), max_size=6)


@given(st.sampled_from([1, -1]), st.lists(st.tuples(st.sampled_from(range(4)), sides), max_size=30), st.integers(1, 7))
def test_the_ladder_is_the_sum_of_all(sign: int, steps: list[tuple[int, dict[float, float]]], count: int) -> None:
    ladder, known = Ladder(sign), dict[Source, dict[float, float]]()
    for number, side in steps:
        source = SOURCES[number]
        levels: list[Level] = sorted(side.items(), reverse=sign == 1)
        before = known.get(source, {})
        known[source] = {price: size for price, size in side.items() if size}
        touched = ladder.set(source, levels)
        assert touched == sum(
            before.get(price) != known[source].get(price) for price in before.keys() | known[source].keys()
        )
        wanted = naive(known, sign)
        assert ladder.top(100) == wanted
        assert ladder.top(count) == (wanted[0][:count], wanted[1][:count])
        assert len(ladder) == len(wanted[0])


def naive(known: dict[Source, dict[float, float]], sign: int) -> tuple[list[Level], list[dict[str, float]]]:
    every = sorted({price for side in known.values() for price in side}, reverse=sign == 1)
    levels, venues = list[Level](), list[dict[str, float]]()
    for price in every:
        shares = {
            venue: fsum(side[price] for source, side in known.items() if source.venue == venue and price in side)
            for venue in sorted({source.venue for source, side in known.items() if price in side})
        }
        levels.append((price, fsum(shares.values())))
        venues.append(shares)
    return levels, venues


def test_what_is_repeated_touches_nothing() -> None:
    ladder = Ladder(1)
    assert ladder.set(SOURCES[0], [(2.0, 1.0), (1.0, 1.0)]) == 2
    assert ladder.set(SOURCES[0], [(2.0, 1.0), (1.0, 1.0)]) == 0
    assert ladder.set(SOURCES[0], [(2.0, 3.0), (1.0, 1.0)]) == 1
    assert ladder.set(SOURCES[0], []) == 2
    assert len(ladder) == 0
