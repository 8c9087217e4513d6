"""Times in text."""

import pytest

from feeds.rfc3339 import parse_ns


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2026-08-09T21:05:48.228568804Z", 1_786_309_548_228_568_804),
        ("2026-08-09T21:05:48.2Z", 1_786_309_548_200_000_000),
        ("2026-08-09T21:05:48Z", 1_786_309_548_000_000_000),
        ("2026-08-09T21:05:48.123456+00:00", 1_786_309_548_123_456_000),
        ("2026-08-09T21:05:48.1234567891Z", 1_786_309_548_123_456_789),
        ("1970-01-01T00:00:00Z", 0),
        ("0001-01-01T00:00:00.000000Z", None),
    ],
)
def test_whole_nanoseconds(text: str, ns: int | None) -> None:
    assert parse_ns(text) == ns


@pytest.mark.parametrize(
    "text",
    ["", "Z", "never", "2026-08-09", "2026-08-09T21:05:48", "2026-08-09T21:05:48+02:00", "2026-08-09T25:05:48Z",
     "2026-08-09T21:05:48.1_0Z", "2026-08-09T21:05:48,5Z", "2026-08-09T21:05:48.-1Z", "9999-01-01T00:00:00Z"],
)  # fmt: skip
def test_what_is_no_time_in_utc(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_ns(text)
