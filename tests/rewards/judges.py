"""Judges on real loopback sockets: the package's own server, and rogues that break the protocol."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from rewards import Colorfulness, HTTPReward, Reward
from rewards.remote.app import make_app, make_server
from rewards.remote.protocol import Limits

_LASTING = contextlib.ExitStack()  # servers in it are not collected as garbage, which would end them
Act = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(
    rewards: dict[str, Reward],
    token: str | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    certificate: Path | None = None,
    key: Path | None = None,
    host: str = "127.0.0.1",
) -> Iterator[str]:
    """The address of a server in a thread."""
    server = make_server(make_app(rewards, token, "cpu", limits), host, 0, certificate, key, limits)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"{'https' if certificate else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@cache
def colourful_judge() -> str:
    """The address of a judge of colourfulness that lives as long as the process."""
    return _LASTING.enter_context(serving({"colour": Colorfulness()}))


@dataclass
class Rogue:
    """Address of a rogue, with the bytes and the time of each connection's request."""

    url: str
    requests: list[bytes] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


def hear(connection: socket.socket) -> bytes:
    """Receive a complete request."""
    received = b""
    while b"\r\n\r\n" not in received and (more := connection.recv(65536)):
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length and (more := connection.recv(65536)):
        body += more
    return head + b"\r\n\r\n" + body


@contextlib.contextmanager
def rogue(*acts: Act) -> Iterator[Rogue]:
    """A server that meets its n-th connection with its n-th act, and all further ones with the last."""
    server = socket.create_server(("127.0.0.1", 0))
    judge = Rogue(f"http://127.0.0.1:{server.getsockname()[1]}")
    connections: list[socket.socket] = []

    def meet(connection: socket.socket, act: Act) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(5)
            judge.requests.append(hear(connection))
            act(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                judge.times.append(time.monotonic())
                connections.append(connection)
                act = acts[min(len(connections), len(acts)) - 1]
                threading.Thread(target=meet, args=(connection, act), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield judge
    finally:
        for open_socket in (server, *connections):
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
            open_socket.close()


def answer(body: bytes = b"", status: str = "200 OK", **headers: str) -> Act:
    """Answer at once; underscores in names of headers are hyphens."""
    lines = {"Content-Length": str(len(body))} | {name.replace("_", "-"): value for name, value in headers.items()}
    head = f"HTTP/1.1 {status}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return send(head.encode() + b"\r\n" + body)


def send(content: bytes) -> Act:
    """Send exactly these bytes and close."""
    return lambda connection: connection.sendall(content)


def drip(content: bytes, rest: float = 0.02) -> Act:
    """Send byte after byte, never silent for long."""

    def act(connection: socket.socket) -> None:
        for byte in content:
            connection.sendall(bytes([byte]))
            time.sleep(rest)

    return act


def silent(connection: socket.socket) -> None:
    """Say nothing until the other end goes."""
    connection.recv(1)


def scores(*values: object, protocol: object = 1) -> bytes:
    """An answer's body."""
    return json.dumps({"protocol": protocol, "scores": values}).encode()


def asking(url: str, **options: object) -> HTTPReward:
    """A reward that asks for the colour once, with patience enough for a busy machine."""
    return HTTPReward(url, **({"reward": "colour", "timeout": 2.0, "connect_timeout": 1.0, "retries": 0} | options))
