"""Judges that lie, stall, flood and break off: the error is one line within the time limit, never a wrong number."""

from __future__ import annotations

import gzip
import logging
import pickle
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from email.utils import formatdate
from types import SimpleNamespace

import pytest
import torch
from tenacity import wait_none

import rewards.remote.client as http_judge
from rewards.remote.failure import AttemptError, JudgeError
from tests.rewards.judges import Act, answer, asking, drip, rogue, scores, send, silent

IMAGES, PROMPTS = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), ["a cat", "a dog"]
GOOD = scores(1.5, -2)
TOKEN = "s3cret-t0ken"


@contextmanager
def within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_judge, "_jitter", wait_none())


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("JUDGE_TOKEN", TOKEN)
    return TOKEN


def check_refused(url: str, message: str, **options: object) -> str:
    """The one line that names the judge and, in the order of the message, what came and what to do."""
    with within(1.5), pytest.raises(JudgeError, match=message) as caught:
        asking(url, **({"timeout": 0.3, "connect_timeout": 0.2} | options)).score(IMAGES, PROMPTS)
    line = str(caught.value)
    assert line.startswith(f"judge {url} ")
    assert "\n" not in line
    assert len(line) < 400
    return line


BODIES = {
    "nothing": (b"", "invalid answer, the body is no valid JSON"),
    "a page": (b"<html>", "no valid JSON"),
    "cut off": (GOOD[:-2], "no valid JSON"),
    "not UTF-8": (b'{"protocol": 1, "scores": [1, 2], "\xff": 0}', "no valid JSON"),
    "nested deeply": (b"[" * 50_000, "no valid JSON"),
    "NaN": (b'{"protocol": 1, "scores": [1, NaN]}', "no valid JSON"),
    "Infinity": (b'{"protocol": 1, "scores": [1, -Infinity]}', "no valid JSON"),
    "an integer of 5,000 digits": (b'{"protocol": 1, "scores": [1, %s]}' % (b"9" * 5000), "no valid JSON"),
    "a list": (b"[1, 2]", "a JSON list, not an object"),
    "null": (b"null", "a JSON NoneType, not an object"),
    "no protocol": (b'{"scores": [1, 2]}', "not of protocol 1"),
    "protocol 2": (scores(1, 2, protocol=2), "not of protocol 1"),
    "protocol true": (scores(1, 2, protocol=True), "not of protocol 1"),
    "no scores": (b'{"protocol": 1}', "scores are a NoneType, not a list"),
    "an object of scores": (b'{"protocol": 1, "scores": {"0": 1, "1": 2}}', "scores are a dict, not a list"),
    "too few": (scores(1), "1 scores for 2 images"),
    "too many": (scores(1, 2, 3), "3 scores for 2 images"),
    "a string": (scores(1, "2"), "score 1 is a str, not a number"),
    "a bool": (scores(True, 2), "score 0 is a bool, not a number"),
    "a null": (scores(1, None), "score 1 is a NoneType, not a number"),
    "a list of lists": (scores([1], [2]), "score 0 is a list, not a number"),
    "beyond float64": (b'{"protocol": 1, "scores": [1, -1e400]}', "score 1 is -inf, which is not finite"),
    "beyond float32": (scores(1, 1e39), r"score 1 is 1e\+39, which is not finite in float32"),
    "an integer beyond float64": (scores(10**400, 1), "too large for float32"),
    "too long": (GOOD + b" " * 70_000, "answered with more than 65664 bytes"),
}


@pytest.mark.parametrize(("body", "message"), BODIES.values(), ids=BODIES)
def test_bodies_that_are_no_scores(body: bytes, message: str) -> None:
    with rogue(answer(body)) as judge:
        check_refused(judge.url, f"{message}.*: correct url", retries=3)
        assert len(judge.requests) == 1


def test_an_answer_may_be_as_long_as_its_limit() -> None:
    with rogue(answer(GOOD.ljust(65_664))) as judge:
        torch.testing.assert_close(asking(judge.url).score(IMAGES, PROMPTS), torch.tensor([1.5, -2.0]))


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(GOOD)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
STALLED = "no complete answer within 0.3 s: see its log, raise timeout"
BROKEN = "broke off, or answered with no valid HTTP: see"
ACTS: dict[str, tuple[Act, str]] = {
    "never answers": (silent, STALLED),
    "drips its head": (drip(HEAD + GOOD), STALLED),
    "drips its body": (lambda c: (c.sendall(HEAD), drip(GOOD)(c)), STALLED),
    "drips chunks": (lambda c: (c.sendall(CHUNKED), drip(b"1\r\n \r\n" * 30)(c)), STALLED),
    "answers for now, for ever": (drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 50, 0.001), STALLED),
    "ends early in the body": (send(HEAD + GOOD[:10]), BROKEN),
    "ends early in the head": (send(HEAD[:20]), BROKEN),
    "closes at once": (lambda c: None, BROKEN),
    "promises too little": (send(HEAD.replace(b"%d" % len(GOOD), b"5") + GOOD), "no valid JSON"),
    "garbage": (send(b"\x00\xff" * 300 + b"\r\n\r\n"), BROKEN),
    "a chunk without a size": (send(CHUNKED + b"zz\r\n" + GOOD), BROKEN),
    "a head without end": (lambda c: c.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2_000_000), BROKEN),
    "chunks without end": (send(CHUNKED + b"100000\r\n" + b" " * 0x100000 + b"\r\n"), "more than 65664 bytes"),
    "a bomb": (answer(gzip.compress(b" " * 10_000_000 + GOOD), Content_Encoding="gzip"), "compressed body.*: correct"),
}


@pytest.mark.parametrize(("act", "message"), ACTS.values(), ids=ACTS)
def test_answers_that_are_no_answers(act: Act, message: str) -> None:
    with rogue(act) as judge:
        check_refused(judge.url, message)


def test_no_server_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    check_refused(url, r"can't be reached: start it, or correct url\.$")


def test_a_server_that_accepts_no_connection() -> None:
    with ExitStack() as opened:
        server, *crowd = (opened.enter_context(socket.socket()) for _ in range(4))
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for waiting in crowd:  # they fill the queue, and the next client waits in vain
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        check_refused(url, "no connection within connect_timeout: start", timeout=9.0)


def test_names_that_are_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    check_refused("http://judge.invalid", "a host name that can't be looked up: correct url")
    done = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: done.wait(5))
    check_refused("http://judge.invalid", "no complete answer within 0.3 s|no connection within", connect_timeout=9.0)
    done.set()


@pytest.mark.parametrize(
    "failing", [answer(status="500 Oops"), answer(status="429 Slow", Retry_After="0"), send(b""), send(HEAD + b"{")]
)
def test_passing_failures_are_tried_again(no_waits: None, failing: Act) -> None:
    with rogue(failing, failing, answer(GOOD)) as judge:
        torch.testing.assert_close(asking(judge.url, retries=2).score(IMAGES, PROMPTS), torch.tensor([1.5, -2.0]))
        assert len(judge.requests) == 3
        assert len(set(judge.requests)) == 1


def test_retries_are_counted_and_named(no_waits: None) -> None:
    body = b'{"error": "out of\\n  memory."}'
    with rogue(answer(body, "503 Busy")) as judge:
        check_refused(judge.url, r"503 Service Unavailable \(out of memory\) \(attempt 3, the last\): see", retries=2)
        assert len(judge.requests) == 3


def test_every_attempt_has_the_full_time(no_waits: None) -> None:
    with rogue(silent) as judge, within(1.2):
        start = time.monotonic()
        check_refused(judge.url, "attempt 3, the last", retries=2, timeout=0.2)
        assert time.monotonic() - start > 0.6


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("400 Bad Request", "400 Bad Request: change the reward's arguments"),
        ("401 Unauthorized", "401 Unauthorized: export the judge's token and name its variable as token_variable"),
        ("403 Forbidden", "403 Forbidden: export"),
        ("404 Not Found", "404 Not Found: correct url or reward"),
        ("418 I am a teapot", "418"),
        ("204 No Content", "204 No Content"),
        ("299 Odd", "299 .no status of HTTP."),
    ],
)
def test_lasting_failures_are_not_tried_again(no_waits: None, status: str, message: str) -> None:
    with rogue(answer(status=status)) as judge:
        check_refused(judge.url, message, retries=3)
        assert len(judge.requests) == 1


def test_retry_after_is_honoured_up_to_a_limit(no_waits: None) -> None:
    with rogue(answer(status="429 Slow down", Retry_After="1"), answer(GOOD)) as judge:
        asking(judge.url, retries=1).score(IMAGES, PROMPTS)
        assert 1 <= judge.times[1] - judge.times[0] < 2
    for late in ("3600", formatdate(time.time() + 3600, usegmt=True)):
        with rogue(answer(status="503 Busy", Retry_After=late)) as judge:
            check_refused(judge.url, r"asks to wait 3(600|599) s: try again then", retries=3)
            assert len(judge.requests) == 1


@pytest.mark.parametrize("nonsense", ["", "-5", "soon", "1e9", "nan", "\xb2", "Mon, 99 Foo 2026"])
def test_a_retry_after_that_says_nothing(no_waits: None, nonsense: str) -> None:
    with rogue(answer(status="503 Busy", Retry_After=nonsense), answer(GOOD)) as judge, within(1):
        asking(judge.url, retries=1).score(IMAGES, PROMPTS)


def test_waits_double_at_random_up_to_a_limit() -> None:
    def waits(attempt: int, wait: float = 0.0) -> list[float]:
        outcome = SimpleNamespace(exception=lambda: AttemptError("", "", wait=wait))
        return [http_judge._pause(SimpleNamespace(attempt_number=attempt, outcome=outcome)) for _ in range(200)]

    assert max(waits(1)) <= 0.5
    assert 1 < max(waits(3)) <= 2
    assert 20 < max(waits(50)) <= 30
    assert len(set(waits(3))) > 100
    assert min(waits(1, wait=4.0)) == 4.0


def test_a_redirect_takes_the_token_nowhere(token: str, no_waits: None) -> None:
    with rogue(answer(GOOD)) as thief, rogue(answer(status="307 Over there", Location=thief.url)) as judge:
        options = {"token_variable": "JUDGE_TOKEN", "retries": 2}
        check_refused(judge.url, "307 Temporary Redirect: redirects are not followed", **options)
        assert not thief.requests
        assert f"Bearer {token}".encode() in judge.requests[0]
        assert len(judge.requests) == 1


def test_a_good_answer_is_believed_and_neither_logs_nor_proxies_see_the_token(
    token: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with rogue(answer(GOOD)) as proxy, rogue(answer(GOOD)) as judge:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        scored = asking(judge.url, token_variable="JUDGE_TOKEN").score(IMAGES, PROMPTS)
        torch.testing.assert_close(scored, torch.tensor([1.5, -2.0]))
        assert not proxy.requests
    assert caplog.text
    assert token not in caplog.text


@pytest.mark.parametrize(
    "echo",
    [
        answer(b'{"error": "bad token %s"}' % TOKEN.encode(), "401 Unauthorized"),
        answer(b'{"error": "%s%s"}' % (b"x" * 195, TOKEN.encode()), "500 Oops"),
        answer(scores(TOKEN, 1)),
        answer(scores(1, 2, protocol=TOKEN)),
        send(TOKEN.encode() + b"\r\n\r\n"),
        answer(status="302 Found", Location=f"http://127.0.0.1/{TOKEN}"),
        answer(GOOD, Content_Encoding=TOKEN),
        answer(status="503 Busy", Retry_After=TOKEN),
    ],
)
def test_the_token_shows_nowhere(token: str, echo: Act, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with rogue(echo) as judge:
        reward = asking(judge.url, token_variable="JUDGE_TOKEN")
        with pytest.raises(JudgeError) as caught:
            reward.score(IMAGES, PROMPTS)
        assert f"Authorization: Bearer {token}".encode() in judge.requests[0]
    ours = "".join(record.getMessage() for record in caplog.records if record.name.startswith("rewards"))
    for text in (str(caught.value), repr(caught.value), repr(reward), str(vars(reward)), ours):
        assert token[:6] not in text
    assert token.encode() not in pickle.dumps(reward) + pickle.dumps(caught.value)


def test_one_of_many_requests_fails(no_waits: None) -> None:
    with rogue(answer(scores(1)), answer(scores(2, 3)), silent) as judge:
        check_refused(judge.url, "2 scores for 1 images", batch_size=1, concurrency=1, timeout=5.0)
    with rogue(answer(b"{}"), silent) as judge:
        check_refused(judge.url, "not of protocol 1", batch_size=1, concurrency=2, timeout=5.0)


def test_ctrl_c_gets_through() -> None:
    main = threading.main_thread().ident
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning ignores it after another Ctrl-C

    def interrupt(connection: socket.socket) -> None:
        time.sleep(0.2)  # the request was received, so the client is waiting by now
        signal.pthread_kill(main, signal.SIGINT)
        silent(connection)

    with rogue(interrupt) as judge, within(2):
        reward = asking(judge.url, timeout=30.0)
        with pytest.raises(KeyboardInterrupt):
            reward.score(IMAGES, PROMPTS)
    signal.signal(signal.SIGINT, before)
