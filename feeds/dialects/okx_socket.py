"""OKX's requests on a socket: what a client may ask, and how it is answered or refused."""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from feeds.dialects.base import Conversation, Item

__all__ = ["OkxConversation"]

_PUBLIC: Final = re.compile(
    "books(5|-l2-tbt|50-l2-tbt)?|bbo-tbt|trades|tickers|mark-price|index-tickers|funding-rate|open-interest|price-limit"
)
_BUSINESS: Final = re.compile(r"(mark-price-|index-)?candle\w+|trades-all")
CONNECTION: Final = "a4d3ae55"

_encode = msgspec.json.encode


class OkxConversation(Conversation):
    """One socket. `listed` tells whether an instrument exists, `snapshot` gives a book's data as it stands."""

    def __init__(self, business: bool, listed: Callable[[str], bool], snapshot: Callable[[str], bytes | None]) -> None:
        super().__init__()
        self._channels = _BUSINESS if business else _PUBLIC
        self._listed, self._snapshot = listed, snapshot

    def receive(self, message: bytes, binary: bool) -> list[bytes]:
        if message == b"ping":
            return [b"pong"]
        try:
            request: Any = msgspec.json.decode(message)
            operation, args = request["op"], request["args"]
            number = {"id": request["id"]} if "id" in request else {}
            pairs = [(arg["channel"], arg.get("instId", "")) for arg in args]
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
            return [_error({}, "60012", f"Invalid request: {message[:200].decode(errors='replace')}")]
        if operation not in ("subscribe", "unsubscribe"):
            return [_error(number, "60012", f"Invalid request: {message[:200].decode(errors='replace')}")]
        answers: list[bytes] = []
        for channel, name in pairs:
            answers += self._one(operation, str(channel), str(name), number)
        return answers

    def _one(self, operation: str, channel: str, name: str, number: dict[str, Any]) -> list[bytes]:
        if not self._channels.fullmatch(channel) or not (channel.startswith("index-") or self._listed(name)):
            text = (
                f"Wrong URL or channel:{channel}, instId:{name} doesn't exist. Please use the correct URL, channel and "
                "parameters referring to API document."
            )
            return [_error(number, "60018", text)]
        arg = {"channel": channel, "instId": name}
        answer = [_encode({**number, "event": operation, "arg": arg, "connId": CONNECTION})]
        if operation == "unsubscribe":
            self.topics.pop(f"{channel}:{name}", None)
            return answer
        self.topics[f"{channel}:{name}"] = None
        book = self._snapshot(name) if channel in ("books", "books-l2-tbt", "books50-l2-tbt") else None
        if book is not None:
            answer.append(b'{"arg":' + _encode(arg) + b',"action":"snapshot","data":[' + book + b"]}")
        return answer

    def render(self, topic: str, item: Item, data: bytes) -> bytes:
        reading = item.reading
        before, after = item.payload[: reading.start], item.payload[reading.end :]
        recorded, told = reading.topics[0].partition(":")[0], topic.partition(":")[0]
        if told != recorded:
            before, after = (
                part.replace(b'"%s"' % recorded.encode(), b'"%s"' % told.encode()) for part in (before, after)
            )
        return before + data + after

    def shutdown(self, ts: int) -> list[bytes]:
        text = "The connection will soon be closed for a service upgrade. Please reconnect."
        return [_encode({"event": "notice", "code": "64008", "msg": text, "connId": CONNECTION})]


def _error(number: dict[str, Any], code: str, text: str) -> bytes:
    return _encode({**number, "event": "error", "code": code, "msg": text, "connId": CONNECTION})
