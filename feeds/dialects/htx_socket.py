"""HTX's requests on a socket: what a client may ask, and how it is answered or refused. Answers are gzip members."""

import gzip
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from feeds.dialects.base import Conversation, Item, Refused

if TYPE_CHECKING:
    from feeds.dialects.htx import HtxDialect

__all__ = ["HtxConversation"]

#: Pings without an answer before the third one cuts.
UNANSWERED_MAX: Final = 2
_TOPIC = re.compile(r"market\.(?P<symbol>[A-Za-z0-9_-]{1,40})\.(?P<channel>[A-Za-z0-9_.]{1,60})")
_CHANNEL = re.compile(
    r"trade\.detail|bbo|ticker|detail|depth\.step\d{1,2}|depth\.size_(20|150)\.high_freq|mbp\.(refresh\.)?\d{1,3}"
    r"|kline\.\w{4,5}|mark_price\.1min|index\.1min"
)
_encode = msgspec.json.encode


class HtxConversation(Conversation):
    """One socket. The venue pings, and cuts who did not echo two numbers."""

    binary = True

    def __init__(self, dialect: "HtxDialect", path: str) -> None:
        super().__init__()
        self._dialect, self._path = dialect, path
        self._unanswered: list[int] = []

    def tick(self) -> list[bytes]:
        if len(self._unanswered) >= UNANSWERED_MAX:
            raise Refused("ping check failed", code=1000)
        self._unanswered.append(self._dialect.now_ms())
        return [_packed({"ping": self._unanswered[-1]})]

    def receive(self, message: bytes, binary: bool) -> list[bytes]:
        try:
            request = msgspec.json.decode(message)
            if "pong" in request:
                if request["pong"] in self._unanswered:
                    self._unanswered.clear()
                return []
            verb = next(verb for verb in ("sub", "unsub", "req") if verb in request)
            return self._carry_out(verb, request[verb], request)
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):
            return [self._error({}, "not json string")]
        except StopIteration:
            return [self._error({}, "invalid message")]

    def _carry_out(self, verb: str, topic: object, request: dict[str, Any]) -> list[bytes]:
        match = _TOPIC.fullmatch(topic) if isinstance(topic, str) else None
        if match is None or not isinstance(topic, str) or not self._offers(match["channel"]):
            return [self._error(request, f"invalid topic {topic}")]
        if not self._dialect.known(match["symbol"]):
            return [self._error(request, f"invalid symbol {match['symbol']}")]
        if verb == "req":
            return [self._book(match["symbol"], topic, request)]
        if verb == "unsub":
            if topic not in self.topics:
                return [self._error(request, f"unsub with not subbed topic {topic}")]
            del self.topics[topic]
            return [self._answer(request, {"unsubbed": topic})]
        self.topics[topic] = None
        frames = [self._answer(request, {"subbed": topic})]
        book = self._dialect.book(match["symbol"]) if topic.endswith(".size_150.high_freq") else None
        if book is not None:
            ts = self._dialect.now_ms()
            frames.append(_packed({"ch": topic, "tick": book.counted("snapshot", *book.levels(), ts), "ts": ts}))
        return frames

    def _offers(self, channel: str) -> bool:
        """Changes of spot books are on `/feed`, and nothing else is."""
        chained = channel.startswith("mbp.") and "refresh" not in channel
        return _CHANNEL.fullmatch(channel) is not None and chained == (self._path == "/feed")

    def _book(self, symbol: str, topic: str, request: dict[str, Any]) -> bytes:
        book = self._dialect.book(symbol)
        if book is None:
            return self._error(request, "request timeout")
        bids, asks = book.levels()
        return self._answer(request, {"rep": topic, "data": {"bids": bids, "asks": asks, "seqNum": book.count}})

    def _answer(self, request: dict[str, Any], parts: dict[str, Any]) -> bytes:
        return _packed({"id": request.get("id"), "status": "ok", **parts, "ts": self._dialect.now_ms()})

    def _error(self, request: dict[str, Any], text: str) -> bytes:
        named = {"id": request["id"]} if "id" in request else {}
        ts = self._dialect.now_ms()
        return _packed({"status": "error", "ts": ts, **named, "err-code": "bad-request", "err-msg": text})

    def render(self, topic: str, item: Item, data: bytes) -> bytes:
        if data is item.payload:
            return data  # garbage, as it came
        return gzip.compress(self._dialect.told.get(topic, data), 1, mtime=0)


def _packed(frame: dict[str, Any]) -> bytes:
    return gzip.compress(_encode(frame), 1, mtime=0)
