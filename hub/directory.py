"""All channels that ever had a message, and the patterns that stand for them. Pure.

In a pattern `*` stands for every venue except `all`, or for every symbol; the symbol `*` of kind `status` is no
pattern but the venue as a whole.
"""

from hub.errors import RequestError
from hub.keys import ALL_VENUES, Channel, parse_channel

__all__ = ["Directory", "is_pattern", "patterns_of"]


def is_pattern(channel: Channel) -> bool:
    return channel.venue == "*" or (channel.symbol == "*" and channel.kind != "status")


def patterns_of(channel: Channel) -> list[str]:
    """Return the patterns that stand for `channel`."""
    found = [] if channel.kind == "status" else [f"{channel.kind}:{channel.venue}:*"]
    if channel.venue != ALL_VENUES:
        found.append(f"{channel.kind}:*:{channel.symbol}")
        if channel.kind != "status":
            found.append(f"{channel.kind}:*:*")
    return found


class Directory:
    """Names of channels, indexed by the patterns that match them, by symbol and by venue."""

    def __init__(self) -> None:
        self.names: dict[str, Channel] = {}
        self.symbols: dict[str, set[str]] = {}  # symbol -> venues
        self.venues: dict[str, set[str]] = {}  # venue -> symbols
        self._matches: dict[str, list[str]] = {}

    def add(self, name: str) -> Channel | None:
        """Note a name; returns its parts, None where it is known already or no channel."""
        if name in self.names:
            return None
        try:
            channel = parse_channel(name)
        except RequestError:
            return None
        self.names[name] = channel
        for pattern in patterns_of(channel):
            self._matches.setdefault(pattern, []).append(name)
        if channel.symbol != "*":
            self.symbols.setdefault(channel.symbol, set()).add(channel.venue)
            self.venues.setdefault(channel.venue, set()).add(channel.symbol)
        return channel

    def match(self, pattern: str) -> list[str]:
        """Return the channels `pattern` stands for now, oldest first."""
        return list(self._matches.get(pattern, ()))
