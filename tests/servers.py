"""Several real Redis servers that belong together: a Cluster of masters, a master with its replica and a Sentinel."""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from hub.processes import die_with_parent
from hub.redis_binary import Server, find_server
from tests.ports import free_port

__all__ = ["Node", "RedisCluster", "Sentinels", "cluster", "eventually", "sentinels"]

SLOTS = 16_384


class Node:
    """One server. `start` may follow `kill`, on the same port."""

    def __init__(self, server: Server, folder: Path, port: int, *lines: str, sentinel: bool = False) -> None:
        self.folder, self.port, self.sentinel = folder, port, sentinel
        self.process: subprocess.Popen[bytes] | None = None
        self._server = server
        folder.mkdir()
        module = [f"loadmodule {server.module}"] if server.module is not None and not sentinel else []
        settings = ["bind 127.0.0.1", f"port {port}", f"dir {folder}", 'save ""', "daemonize no", *module, *lines]
        (folder / "redis.conf").write_text("\n".join(settings) + "\n")

    async def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self._server.binary, str(self.folder / "redis.conf"), *(["--sentinel"] if self.sentinel else [])],
                env={**os.environ, **self._server.env}, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )  # fmt: skip
        await eventually(self._answers)

    async def _answers(self) -> bool:
        return bool(await self.call("PING"))

    async def call(self, *words: str | int) -> Any:
        async with Redis(port=self.port, socket_timeout=30) as client:
            return await client.execute_command(*words)  # type: ignore[no-untyped-call]

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


async def eventually(condition: Callable[[], Any], timeout_s: float = 60.0) -> None:
    """Wait until `condition()` is true; errors of Redis count as false."""
    end = time.monotonic() + timeout_s
    while True:
        with suppress(RedisError, OSError):
            if await condition():
                return
        assert time.monotonic() < end, "did not come true in time"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def _running(nodes: Sequence[Node]) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for node in nodes:
            stack.callback(node.kill)
            await node.start()
        yield


class RedisCluster:
    """Masters that share the slots evenly."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])

    async def is_whole(self) -> bool:
        for node in self.nodes:
            info = await node.call("CLUSTER", "INFO")
            known = await node.call("CLUSTER", "NODES")
            if b"cluster_state:ok" not in info or len(known.splitlines()) != len(self.nodes):
                return False
        return True

    async def move_slot(self, slot: int, source: Node, target: Node) -> None:
        """Move a slot with its keys, as an operator would."""
        ids = {node: (await node.call("CLUSTER", "MYID")).decode() for node in (source, target)}
        await target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        await source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        while keys := await source.call("CLUSTER", "GETKEYSINSLOT", slot, 100):
            await source.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for node in (target, source, *self.nodes):
            await node.call("CLUSTER", "SETSLOT", slot, "NODE", ids[target])


@asynccontextmanager
async def cluster(folder: Path, size: int = 3) -> AsyncIterator[RedisCluster]:
    server = find_server(folder)
    nodes = [
        Node(
            server, folder / f"node{number}", free_port(),
            "cluster-enabled yes", f"cluster-port {free_port()}", "cluster-node-timeout 2000", "appendonly yes",
            "appendfsync always",
        )
        for number in range(size)
    ]  # fmt: skip
    async with _running(nodes):
        made = RedisCluster(nodes)
        for number, node in enumerate(nodes):
            first, last = SLOTS * number // size, SLOTS * (number + 1) // size - 1
            await node.call("CLUSTER", "ADDSLOTSRANGE", first, last)
            bus_port = (await nodes[0].call("CONFIG", "GET", "cluster-port"))[b"cluster-port"].decode()
            if node is not nodes[0]:
                await node.call("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, bus_port)
        await eventually(made.is_whole)
        yield made


class Sentinels:
    """A master, its replica, and one Sentinel that watches them under the name `hub`."""

    def __init__(self, master: Node, replica: Node, sentinel: Node) -> None:
        self.master, self.replica, self.sentinel = master, replica, sentinel

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{self.sentinel.port}/hub/0"

    async def master_port(self) -> int:
        """Return the port of the master the Sentinel names."""
        _, port = await self.sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "hub")
        return int(port)

    async def follows(self) -> bool:
        """Tell whether the replica was made the master."""
        role, *_ = await self.replica.call("ROLE")
        return bool(role == b"master" and await self.master_port() == self.replica.port)

    async def settled(self) -> bool:
        replicas = await self.sentinel.call("SENTINEL", "REPLICAS", "hub")
        info = await self.replica.call("INFO", "replication")
        return len(replicas) == 1 and info["master_link_status"] == "up"


@asynccontextmanager
async def sentinels(folder: Path) -> AsyncIterator[Sentinels]:
    server = find_server(folder)
    master = Node(server, folder / "master", free_port(), "appendonly yes", "repl-diskless-sync-delay 0")
    replica = Node(server, folder / "replica", free_port(), f"replicaof 127.0.0.1 {master.port}")
    sentinel = Node(
        server, folder / "sentinel", free_port(), f"sentinel monitor hub 127.0.0.1 {master.port} 1",
        "sentinel down-after-milliseconds hub 1000", "sentinel failover-timeout hub 5000", sentinel=True,
    )  # fmt: skip
    async with _running([master, replica, sentinel]):
        made = Sentinels(master, replica, sentinel)
        await eventually(made.settled, 30)
        yield made
