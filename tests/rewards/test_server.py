"""The server against clients that send too much, too slowly, without a token or all at once."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import numpy as np
import pytest
import torch
import uvicorn
from jsonargparse import auto_cli
from tenacity import wait_none
from torch import Tensor

import rewards.remote.client as http_judge
from rewards import Colorfulness, JPEGCompressibility, Reward
from rewards.remote import app as server_app
from rewards.remote.failure import JudgeError
from rewards.remote.protocol import Limits, read_scores, write_request
from rewards.remote.server import serve
from tests.rewards.conftest import smooth
from tests.rewards.judges import asking, hear, serving

TOKEN = "s3cret-t0ken"
PATH = "/v1/rewards/colour/scores"
CLIENT = httpx2.Client(trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
JSON = {"Content-Type": "application/json"}
BODY = write_request(np.zeros((1, 4, 4, 3), dtype=np.uint8), [""])
IMAGES, PROMPTS = smooth(16, 16, 3), ["a", "b", "c"]


class Slow(Reward):
    """Works until it is let go, and counts how many it works on at once."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go, self.now, self.most, self.done = threading.Event(), threading.Event(), 0, 0, 0

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        self.now += 1
        self.most = max(self.most, self.now)
        self.begun.set()
        self.go.wait(5)
        time.sleep(0.01)
        self.now -= 1
        self.done += 1
        return torch.zeros(len(images))


class Failing(Reward):
    """Fails in a way that shows what must not be shown, or returns NaN without an error to raise."""

    def __init__(self, error: type[Exception] | None) -> None:
        super().__init__()
        self.error = error

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        if self.error is not None:
            raise self.error("/home/me/secret\nline two")
        return torch.full((len(images),), torch.nan)


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    parts = urlsplit(url)
    with closing(socket.create_connection((parts.hostname, parts.port), timeout=5)) as connection:
        yield connection


def head(length: str) -> bytes:
    """The beginning of a request whose body is yet to come."""
    return f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{length}\r\n\r\n".encode()


def error_of(response: httpx2.Response, status: int) -> str:
    """The one line in an error's body, which holds nothing else."""
    assert response.status_code == status
    (line,) = response.json().values()
    assert not any(part in line for part in ("\n", "/home", ".py"))
    return line


def test_nothing_is_shown_without_the_token() -> None:
    wrong = [{}, *({"Authorization": value} for value in (TOKEN, f"Basic {TOKEN}", b"Bearer \xe9"))]
    with serving({"colour": Colorfulness()}, token=TOKEN) as url:
        for headers in wrong:
            for answer in (CLIENT.get(url + "/v1/health", headers=headers), CLIENT.post(url + PATH, headers=headers)):
                assert error_of(answer, 401) == "wrong or no bearer token"
                assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert error_of(CLIENT.post(url + "/v1/rewards/other/scores", headers=headers), 401)
        assert CLIENT.get(url + "/v1/health", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200
        for page in ("/docs", "/redoc", "/openapi.json", "/"):
            assert error_of(CLIENT.get(url + page), 404) == "Not Found"


def test_health_and_requests_that_are_refused() -> None:
    with serving({"colour": Colorfulness(), "b": JPEGCompressibility()}, limits=Limits(images=2)) as url:
        health = CLIENT.get(url + "/v1/health").json()
        assert (health["protocol"], health["rewards"], health["limits"]["images"]) == (1, ["b", "colour"], 2)
        assert "choose one of b, colour" in error_of(CLIENT.post(url + "/v1/rewards/x/scores", headers=JSON), 404)
        assert error_of(CLIENT.get(url + PATH), 405)
        assert "application/json" in error_of(CLIENT.post(url + PATH, content=BODY), 415)
        assert "no valid JSON" in error_of(CLIENT.post(url + PATH, content=b"{", headers=JSON), 400)
        with pytest.raises(JudgeError, match=r"400 Bad Request \(3 images in a request: send at most 2 .*\): change"):
            asking(url, retries=3).score(IMAGES, PROMPTS)
        assert read_scores(CLIENT.post(url + PATH, content=BODY, headers=JSON).content, 1).tolist() == [0.0]


def test_bodies_are_counted_as_they_come() -> None:
    with serving({"colour": Colorfulness()}, limits=Limits(bytes=10_000)) as url:
        assert CLIENT.post(url + PATH, content=BODY, headers=JSON).status_code == 200
        for much in (b" " * 15_000, (b" " * 1000 for _ in range(15))):  # with a Content-Length, and in chunks
            answer = CLIENT.post(url + PATH, content=much, headers=JSON)
            assert error_of(answer, 413).startswith("the body has more than 10000 bytes")
        with connected(url) as connection:
            connection.sendall(head("Transfer-Encoding: chunked") + b"100000\r\n" + b" " * 20_000)
            assert b"413 " in hear(connection)  # though there is no end


def test_too_many_requests_are_told_when_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_judge, "_jitter", wait_none())
    with serving({"colour": Colorfulness()}, limits=Limits(requests=60)) as url:
        answers = [CLIENT.get(url + "/v1/health") for _ in range(12)]
        assert [answer.status_code for answer in answers[:10]] == [200] * 10
        assert error_of(answers[-1], 429) == "more than 60 requests a minute from one address"
        assert answers[-1].headers["Retry-After"] == "1"
        start = time.monotonic()
        assert asking(url, timeout=5.0, retries=2).score(IMAGES, PROMPTS).isfinite().all()
        assert time.monotonic() - start < 3


def test_tokens_can_not_be_tried_out_fast() -> None:
    with serving({"colour": Colorfulness()}, token=TOKEN, limits=Limits(requests=30)) as url:
        guesses = [CLIENT.get(url + "/v1/health", headers={"Authorization": f"Bearer {n}"}) for n in range(8)]
        assert [answer.status_code for answer in guesses] == [401] * 5 + [429] * 3
        right = CLIENT.get(url + "/v1/health", headers={"Authorization": f"Bearer {TOKEN}"})
        assert right.status_code == 429  # who guesses doesn't learn that this was it


def test_a_header_does_not_change_the_address_that_is_counted() -> None:
    with serving({"colour": Colorfulness()}, limits=Limits(requests=30)) as url:
        forwarded = [{"X-Forwarded-For": f"192.0.2.{number}"} for number in range(7)]
        codes = [CLIENT.get(url + "/v1/health", headers=headers).status_code for headers in forwarded]
    assert codes == [200] * 5 + [429] * 2


def test_tokens_are_compared_in_a_time_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    monkeypatch.setattr("hmac.compare_digest", lambda *both: compared.append(both))  # none are equal
    with serving({"colour": Colorfulness()}, token=TOKEN) as url:
        answer = CLIENT.get(url + "/v1/health", headers={"Authorization": f"Bearer {TOKEN}"})
    assert (answer.status_code, compared) == (401, [(TOKEN.encode(), TOKEN.encode())])


def closed(connection: socket.socket) -> float:
    """Seconds until the other end hung up, in five at most."""
    start = time.monotonic()
    with suppress(ConnectionResetError):
        while connection.recv(65536):
            pass
    return time.monotonic() - start


def says_no_more(said: bytes) -> Callable[[socket.socket], None]:
    def act(connection: socket.socket) -> None:
        connection.sendall(said)
        assert 0.8 < closed(connection) < 2

    return act


def drips(connection: socket.socket, content: bytes, least: float = 0.0) -> None:
    """Send byte after byte, to be hung up on within two seconds."""
    start = time.monotonic()
    with suppress(ConnectionError):
        for byte in content:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)
    assert least < time.monotonic() - start < 2


def drips_its_body(connection: socket.socket) -> None:
    start = time.monotonic()
    connection.sendall(head(f"Authorization: Bearer {TOKEN}\r\nContent-Length: 99") + b" ")
    assert b"408 Request Timeout" in hear(connection)
    assert 0.9 < time.monotonic() - start < 2


def drips_a_body_that_is_refused(connection: socket.socket) -> None:
    connection.sendall(head("Content-Length: 9999999"))
    assert b"401 " in hear(connection)
    drips(connection, b" " * 250)


SLOW_CLIENTS: dict[str, Callable[[socket.socket], None]] = {
    "says nothing": says_no_more(b""),
    "says half a head": says_no_more(b"GET /v1/hea"),
    "says one request": says_no_more(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n"),
    "says one request and the next one's beginning": says_no_more(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET"),
    "drips its head": lambda connection: drips(connection, head("Content-Length: 99") * 10, 0.9),
    "drips its body": drips_its_body,
    "drips a body that is refused": drips_a_body_that_is_refused,
}


def test_slow_clients_are_hung_up_on() -> None:
    """All at once on one server: each has its own second."""
    with serving({"colour": Colorfulness()}, TOKEN, Limits(seconds=1)) as url, ExitStack() as crowd:
        pool = crowd.enter_context(ThreadPoolExecutor(len(SLOW_CLIENTS)))
        clients = {name: pool.submit(act, crowd.enter_context(connected(url))) for name, act in SLOW_CLIENTS.items()}
        errors = {name: client.exception(10) for name, client in clients.items()}
    assert not {name: error for name, error in errors.items() if error is not None}


def test_one_address_has_half_of_the_connections() -> None:
    with serving({"colour": Colorfulness()}, limits=Limits(connections=6)) as url, ExitStack() as crowd:
        kept = [crowd.enter_context(connected(url)) for _ in range(3)]
        assert closed(crowd.enter_context(connected(url))) < 1
        kept[0].sendall(b"GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"200 OK" in hear(kept[0])
        closed(kept[0])
        assert CLIENT.get(url + "/v1/health").status_code == 200  # instead of the one that has gone


def test_a_slow_judge_keeps_its_clients_waiting() -> None:
    slow = Slow()
    threading.Timer(1.5, slow.go.set).start()
    with serving({"colour": slow}, limits=Limits(seconds=1)) as url:
        assert asking(url, timeout=5.0).score(IMAGES, PROMPTS).tolist() == [0.0, 0.0, 0.0]


def test_a_reward_that_takes_too_long_is_given_up_and_has_its_place_until_it_ends() -> None:
    slow = Slow()
    with serving({"colour": slow}, limits=Limits(scoring=1)) as url:
        assert (
            error_of(CLIENT.post(url + PATH, content=BODY, headers=JSON), 504) == "the reward has no scores after 1 s"
        )
        threading.Timer(0.5, slow.go.set).start()
        assert asking(url, timeout=5.0).score(IMAGES, PROMPTS).tolist() == [0.0, 0.0, 0.0]
    assert slow.most == 1


def test_one_is_scored_while_some_wait_and_the_rest_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_judge, "_jitter", wait_none())
    slow = Slow()
    with serving({"colour": slow}, limits=Limits(waiting=1)) as url, ThreadPoolExecutor(1) as pool:
        patient = asking(url, timeout=5.0, retries=3, batch_size=1, concurrency=3)
        scores = pool.submit(patient.score, IMAGES, PROMPTS)
        assert slow.begun.wait(5)
        time.sleep(0.1)
        start = time.monotonic()
        assert CLIENT.get(url + "/v1/health").status_code == 200  # the event loop is not held up
        refused = CLIENT.post(url + PATH, content=BODY, headers=JSON)
        assert time.monotonic() - start < 1
        assert error_of(refused, 503) == "too many requests wait"
        assert refused.headers["Retry-After"] == "1"
        slow.go.set()
        assert scores.result(10).tolist() == [0.0, 0.0, 0.0]
    assert (slow.most, slow.done) == (1, 3)


def test_requests_of_clients_that_have_gone_are_not_scored() -> None:
    slow = Slow()
    with serving({"colour": slow}) as url:
        for _ in range(3):
            with pytest.raises(JudgeError, match="no complete answer"):
                asking(url, timeout=0.2).score(IMAGES, PROMPTS)
        slow.go.set()
        asking(url, timeout=5.0).score(IMAGES, PROMPTS)
    assert slow.done == 2  # the first, which had begun, and the last


@pytest.mark.parametrize("error", [ValueError, StopIteration, KeyError, None])
def test_a_reward_that_fails_tells_its_own_log_alone(error: type | None, caplog: pytest.LogCaptureFixture) -> None:
    with serving({"colour": Failing(error)}) as url:
        for _ in range(2):
            line = error_of(CLIENT.post(url + PATH, content=BODY, headers=JSON), 500)
    assert line.startswith(f"the reward failed ({(error or ValueError).__name__})")
    assert caplog.text.count("Traceback") == 2


class BuiltError(Exception):
    """Raised instead of starting a server, with its arguments."""


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> None:
    def make_server(*arguments: object) -> uvicorn.Server:
        raise BuiltError(*arguments)

    monkeypatch.setattr(server_app, "make_server", make_server)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rewards": {}}, "rewards are empty"),
        ({"rewards": {"a b": Colorfulness()}}, "'a b' can't be part of an address"),
        ({"host": "0.0.0.0"}, "host is '0.0.0.0', which others can reach: give a token_variable"),
        ({"port": 65536}, "port is 65536: give one from 1 to 65535"),
        ({"host": "::"}, "others can reach"),
        ({"host": ""}, "others can reach"),
        ({"token_variable": "s3cret-token"}, "no name of an environment variable"),
        ({"token_variable": "UNSET_TOKEN"}, "UNSET_TOKEN is not set"),
        ({"certificate": Path("server.pem")}, "certificate and key belong together"),
    ],
)
def test_arguments_that_are_not_served(built: None, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        serve(**({"rewards": {"colour": Colorfulness()}} | options))
    assert "s3cret" not in str(caught.value)


def test_certificates_that_are_not_there(built: None) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file none\.pem: give PEM files"):
        serve({"colour": Colorfulness()}, certificate=Path("none.pem"), key=Path("none.pem"))


def test_other_machines_with_a_token_and_the_command_line(built: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_TOKEN", TOKEN)
    with pytest.raises(BuiltError) as caught:
        serve({"colour": Colorfulness()}, "0.0.0.0", token_variable="JUDGE_TOKEN")
    assert caught.value.args[1:] == ("0.0.0.0", 8000, None, None, Limits())
    rewards = json.dumps({"jpeg": {"class_path": "rewards.JPEGCompressibility", "init_args": {"quality": 50}}})
    arguments = ["--rewards", rewards, "--port", "9000", "--limits.images", "7"]
    with pytest.raises(BuiltError) as caught:
        auto_cli(serve, as_positional=False, args=arguments)
    assert (*caught.value.args[1:3], caught.value.args[-1]) == ("127.0.0.1", 9000, Limits(images=7))


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "rewards.remote.app")
    install = r"needs the package fastapi: pip install 'srsoup-lightning\[serve\]'"
    with pytest.raises(ModuleNotFoundError, match=install):
        serve({"colour": Colorfulness()})


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_waiting_requests_are_answered(stop: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    slow, terminated = Slow(), threading.Event()
    client = asking(f"http://127.0.0.1:{port}", timeout=5.0, retries=6)

    def interrupt() -> None:
        slow.begun.wait(5)
        signal.pthread_kill(threading.main_thread().ident, stop)
        time.sleep(0.2)
        slow.go.set()

    handler = signal.signal(signal.SIGTERM, lambda *_: terminated.set())  # uvicorn passes the signal on in the end
    try:
        with ThreadPoolExecutor(2) as pool:
            scores, _ = pool.submit(client.score, IMAGES, PROMPTS), pool.submit(interrupt)
            serve({"colour": slow}, port=port)
            assert scores.result(5).tolist() == [0.0, 0.0, 0.0]
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert terminated.is_set() == (stop == signal.SIGTERM)
