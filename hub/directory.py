"""All channels that are published, and the patterns that stand for them. Pure.

In a pattern `*` stands for every venue except `all`, or for every symbol; the symbol `*` of kind `status` is no
pattern but the venue as a whole.
"""

from collections.abc import Set

from hub.errors import RequestError
from hub.keys import ALL_VENUES, Channel, channel_name, parse_channel
from hub.model import KINDS

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
        self._matches: dict[str, dict[str, None]] = {}
        self._listed: set[str] = set()

    @property
    def count(self) -> int:
        """How many names Redis lists, as far as it was said here; those that are no channels included."""
        return len(self._listed)

    def add(self, name: str) -> Channel | None:
        """Note a name; returns its parts, None where it is known already or no channel."""
        self._listed.add(name)
        if name in self.names:
            return None
        try:
            channel = parse_channel(name)
        except RequestError:
            return None
        self.names[name] = channel
        for pattern in patterns_of(channel):
            self._matches.setdefault(pattern, {})[name] = None
        if channel.symbol != "*":
            self.symbols.setdefault(channel.symbol, set()).add(channel.venue)
            self.venues.setdefault(channel.venue, set()).add(channel.symbol)
        return channel

    def retain(self, known: Set[str]) -> list[tuple[str, Channel]]:
        """Redis lists `known` and nothing else: forget and return the channels that their venues no longer have.

        A venue of which nothing is listed did not retire anything: Redis lost its data. Its channels are kept.
        """
        self._listed = set(known)
        venues = {name.split(":", 2)[1] for name in known if name.count(":") > 1}
        gone = [
            (name, channel) for name, channel in self.names.items() if name not in known and channel.venue in venues
        ]
        for name, channel in gone:
            del self.names[name]
            for pattern in patterns_of(channel):
                self._matches[pattern].pop(name, None)
                if not self._matches[pattern]:
                    del self._matches[pattern]
        for _, channel in gone:
            venue, symbol = channel.venue, channel.symbol
            if symbol != "*" and not any(channel_name(kind, venue, symbol) in self.names for kind in KINDS):
                _discard(self.symbols, symbol, venue)
                _discard(self.venues, venue, symbol)
        return gone

    def match(self, pattern: str) -> list[str]:
        """Return the channels `pattern` stands for now, oldest first."""
        return list(self._matches.get(pattern, ()))


def _discard(index: dict[str, set[str]], key: str, value: str) -> None:
    found = index.get(key, set())
    found.discard(value)
    if not found:
        index.pop(key, None)
