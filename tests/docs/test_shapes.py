"""The comparison of examples with what comes: what is alike, and what has to be noticed."""

from typing import Any

import pytest

from tests.docs.shapes import differences


@pytest.mark.parametrize(
    ("example", "live", "where"),
    [
        ({"a": 1}, {"a": 2}, None),
        ({"a": 1}, {}, ".a: only in the example"),
        ({"a": 1}, {"a": 1, "b": 2}, ".b: not in the example"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "in another order"),
        ({"a": 1}, {"a": 1.0}, ".a: float"),
        ({"a": 1}, {"a": True}, ".a: bool"),
        ({"a": 1}, {"a": None}, ".a: null"),
        ({"a": None}, {"a": 1}, ".a: int"),
        ({"may": 1}, {"may": None}, None),
        ({"may": None}, {"may": 1}, None),
        ({"may": 1}, {}, ".may: only in the example"),
        ([[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]], None),
        ([[1.0, 2.0]], [[1.0, 2.0], [3.0, None]], "[][]: null"),
        ([[1, 2.0]], [[1.0, 2]], "[][]: float"),
        ([], [1], "[]: the example shows none"),
        ([1], [], None),
        ([{"a": 1}, {"b": 1}], [{"b": 2}], None),
        ([{"a": 1}, {"b": 1}], [{"c": 2}], "[].a"),
        ({"counters": {"x": 1}}, {"counters": {"y": 2}}, None),
        ({"counters": {"x": 1}}, {"counters": {"y": "2"}}, ".counters: str"),
        ({"kinds": {"x": {"a": 1}}}, {"kinds": {"y": {"b": 2}}}, ".kinds.a: only in the example"),
        ({"kinds": [{"a": 1}]}, {"kinds": [{"b": 2}]}, ".kinds[].a: only in the example"),
        ({"bid_venues": [{"x": 1.0}]}, {"bid_venues": [{"y": 2.0}]}, None),
        ({"bid_venues": [{"x": 1.0}]}, {"bid_venues": [{"y": 2}]}, "int"),
        ({"a": {"b": [{"c": 1}]}}, {"a": {"b": [{"c": 1}, {"c": "1"}]}}, ".a.b[].c: str"),
    ],
)
def test_differences(example: Any, live: Any, where: str | None) -> None:
    found = differences(example, live, {"may"})
    if where is None:
        assert found == []
    else:
        assert where in found[0]
