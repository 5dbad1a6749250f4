"""A small server that speaks the hub's protocol on this machine, for tiny repositories of models."""

from __future__ import annotations

import hashlib
import json
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".pth", ".pt", ".bin")  # kept as blobs of Git LFS, which the hub redirects to


@dataclass
class Repository:
    """A repository, by the folder of each of its commits; the last commit is that of its main branch."""

    commits: dict[str, Path] = field(default_factory=dict)
    gated: bool = False

    def commit_of(self, revision: str) -> str | None:
        return [*self.commits][-1] if revision == "main" else revision if revision in self.commits else None


class Hub(ThreadingHTTPServer):
    """The server.

    Attributes:
        repositories: By id.
        cut: How often the connection is still to break in the middle of a file, by its name.
        requests: Method, path and range of the requests so far.
        tokens_elsewhere: Number of requests with a token to the host of large files, which needs none.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.cut: Counter[str] = Counter()
        self._sockets: list[socket.socket] = []
        self.requests: list[tuple[str, str, str]] = []
        self.tokens_elsewhere = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, name: str, folder: Path | str, *, gated: bool = False) -> str:
        """Add a commit of a repository that holds the files of a folder, and return its hash."""
        repository = self.repositories.setdefault(name, Repository(gated=gated))
        commit = hashlib.sha1(f"{name} {len(repository.commits)}".encode()).hexdigest()
        repository.commits[commit] = Path(folder)
        return commit

    def process_request(self, request: Any, client_address: Any) -> None:
        self._sockets.append(request)
        super().process_request(request, client_address)

    def stop(self) -> None:
        """Stop, and break the connections that are kept open."""
        self.shutdown()
        self.server_close()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def downloads(self, end: str) -> list[str]:
        """Ranges of the downloads of a file so far."""
        return [range_ for method, path, range_ in self.requests if method == "GET" and path.endswith(end)]


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server.requests.append((self.command, path, self.headers.get("Range", "")))
        if path.startswith("api/models/"):
            self._describe(path.removeprefix("api/models/"))
        elif path.startswith("blobs/"):  # where the hub keeps large files, on another host
            self.server.tokens_elsewhere += "Authorization" in self.headers
            _, name, commit, file = path.split("|")
            self._send_file(self.server.repositories[name].commits[commit] / file)
        elif "/resolve/" in path:
            name, _, rest = path.partition("/resolve/")
            self._resolve(name, *rest.split("/", 1))
        else:
            self._refuse(404, "")

    def _commit(self, name: str, revision: str) -> str | None:
        """The commit that is asked for, or None where it is refused."""
        repository = self.server.repositories.get(name)
        if repository is None:
            self._refuse(401, "RepoNotFound")
        elif repository.gated and not self.headers.get("Authorization"):
            self._refuse(401, "GatedRepo")
        elif (commit := repository.commit_of(revision)) is None:
            self._refuse(404, "RevisionNotFound")
        else:
            return commit
        return None

    def _describe(self, path: str) -> None:
        name, _, rest = path.partition("/revision/")
        name, _, tree = name.partition("/tree/")
        if (commit := self._commit(name, (rest or tree or "main").split("/")[0])) is None:
            return
        files = [_entry(name, commit, file, self._folder(name, commit)) for file in self._files(name, commit)]
        siblings = [{"rfilename": entry["path"]} | entry for entry in files]
        about = {"id": name, "sha": commit, "private": False, "siblings": siblings, "tags": []}
        self._send(json.dumps(files if tree else about).encode(), {"Content-Type": "application/json"})

    def _resolve(self, name: str, revision: str, file: str) -> None:
        if (commit := self._commit(name, revision)) is None:
            return
        path, headers = self._folder(name, commit) / file, {"X-Repo-Commit": commit}
        if not path.is_file():
            self._refuse(404, "EntryNotFound", headers)
            return
        entry = _entry(name, commit, file, path.parents[file.count("/")])
        if path.suffix in LARGE:
            place = f"http://localhost:{self.server.server_port}/blobs/|{name}|{commit}|{file}"
            linked = {"X-Linked-Etag": f'"{entry["lfs"]["oid"]}"', "X-Linked-Size": str(entry["size"])}
            self._send(b"", headers | linked | {"Location": place}, 302)
        else:
            self._send_file(path, headers | {"ETag": f'"{entry["oid"]}"'})

    def _send_file(self, path: Path, headers: dict[str, str] | None = None) -> None:
        content, first = path.read_bytes(), 0
        if range_ := self.headers.get("Range"):
            first = int(range_.removeprefix("bytes=").rstrip("-"))
        answer = (headers or {}) | {"Accept-Ranges": "bytes"}
        if first:
            answer["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self._send(content[first:], answer, 206 if first else 200, file=path.name)

    def _send(self, body: bytes, headers: dict[str, str], status: int = 200, file: str = "") -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.cut[file] > 0:
            self.server.cut[file] -= 1
            self.close_connection = True
            body = body[: len(body) // 2] if self.server.cut[file] < FOR_EVER // 2 else b""
        self.wfile.write(body)

    def _refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._send(b"", (headers or {}) | ({"X-Error-Code": code} if code else {}), status)

    def _folder(self, name: str, commit: str) -> Path:
        return self.server.repositories[name].commits[commit]

    def _files(self, name: str, commit: str) -> list[str]:
        folder = self._folder(name, commit)
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


FOR_EVER = 1_000_000  # cuts of a connection that never gives a byte


def _entry(name: str, commit: str, file: str, folder: Path) -> dict[str, Any]:
    content = (folder / file).read_bytes()
    entry = {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
    if Path(file).suffix in LARGE:
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": digest, "sha256": digest, "size": len(content), "pointerSize": 134}
    return entry


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve in a thread for the time of the ``with`` block."""
    hub = Hub()
    thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.stop()
        thread.join()
