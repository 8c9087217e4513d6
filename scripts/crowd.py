"""Many WebSocket clients that read and do no more: the company in which scripts/bench_gateway.py measures.

    python -m scripts.crowd --port 8000 --path /v1/ws --clients 10000 [--channel quote:binance:BTC-USDT] [--leave]

Prints `ready` when all have shaken hands (and subscribed), then reads and throws away until standard input ends. With
`--leave` each client goes when it has shaken hands.
"""

import argparse
import os
import resource
import select
import socket
import sys

REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
AT_ONCE = 50


def masked(text: str) -> bytes:
    """Return a text frame as a client sends it; the mask is zero, which leaves the payload as it is."""
    payload = text.encode()
    if len(payload) > 125:
        raise ValueError("a short frame holds 125 bytes at most")
    return bytes((0x81, 0x80 | len(payload), 0, 0, 0, 0)) + payload


def shake_hands(port: int, path: str, count: int, first: bytes) -> list[socket.socket]:
    """Open `count` connections at once; `first` is sent after the handshake. OSError where one is refused."""
    request = REQUEST.format(path=path, port=port).encode()
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(count)]
    for each in sockets:
        each.sendall(request)
    for each in sockets:
        answer = b""
        while b"\r\n\r\n" not in answer:
            part = each.recv(4096)
            if not part:
                raise ConnectionError(f"the server closed during the handshake: {answer[:100]!r}")
            answer += part
        if not answer.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(f"the server refused: {answer[:100]!r}")
        if first:
            each.sendall(first)
            each.recv(4096)  # the acknowledgement
    return sockets


def read_on(sockets: list[socket.socket]) -> None:
    """Read from all until standard input ends."""
    poll = select.epoll()
    for each in sockets:
        each.setblocking(False)
        poll.register(each.fileno(), select.EPOLLIN)
    poll.register(sys.stdin.fileno(), select.EPOLLIN | select.EPOLLHUP)
    while True:
        for number, _ in poll.poll():
            if number == sys.stdin.fileno():
                return
            if not os.read(number, 65_536):
                raise ConnectionError("the server closed a connection")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/v1/ws")
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--channel")
    parser.add_argument("--leave", action="store_true")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    first = masked(f'{{"op":"subscribe","channels":["{options.channel}"],"id":1}}') if options.channel else b""
    sockets: list[socket.socket] = []
    for begin in range(0, options.clients, AT_ONCE):
        batch = shake_hands(options.port, options.path, min(AT_ONCE, options.clients - begin), first)
        if options.leave:
            for each in batch:
                each.close()
        else:
            sockets += batch
    print("ready", flush=True)
    read_on(sockets)


if __name__ == "__main__":
    main()
