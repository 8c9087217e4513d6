"""Ports for what a test starts elsewhere, where the one who binds cannot be asked which port it got.

One that was merely found free is anybody's until it is bound, seconds later, and tests run beside each other. So each
process of the tests takes a block for as long as it lives, by binding the block's first port, and gives out the rest in
turn. Blocks lie below the ports that a system gives to whoever asks for any.
"""

import os
import socket
from itertools import cycle

from hub.embedded import port_is_free

__all__ = ["free_port"]

FIRST, BLOCKS, SIZE = 10_000, 200, 100


def _claim() -> tuple[socket.socket, int]:
    """Return the socket that holds a block of this process, and the block's first port."""
    for step in range(BLOCKS):
        first = FIRST + (os.getpid() + step) % BLOCKS * SIZE
        holder = socket.socket()
        try:
            holder.bind(("127.0.0.1", first))
        except OSError:
            holder.close()
        else:
            return holder, first
    raise OSError("every block of ports is taken")


_holder, _first = _claim()
_ports = cycle(range(_first + 1, _first + SIZE))


def free_port() -> int:
    """Return a port nobody listens on, and no other process of the tests is given."""
    return next(port for port, _ in zip(_ports, range(SIZE), strict=False) if port_is_free(port))
