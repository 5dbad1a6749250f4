"""Requests to a judge over HTTP: each attempt has a wall-clock limit, and a retry follows where it may help."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import httpx2
from anyio.from_thread import start_blocking_portal
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from rewards.remote.address import Judge
from rewards.remote.failure import LONGEST_WAIT, AttemptError, failure_of_error, failure_of_status
from rewards.remote.protocol import Request

_NO_JUDGE = "correct url, or make the judge keep to docs/remote-rewards.md"
_jitter = wait_random_exponential(0.5, LONGEST_WAIT)


def ask(judge: Judge, requests: Sequence[Request], concurrency: int = 1) -> list[Any]:
    """The judge's answers to the requests, in their order. It also works where an event loop runs already.

    Raises:
        JudgeError: If a request got no valid answer in all its attempts. The other requests are then cancelled.
    """
    # An event loop makes the wall-clock limit certain: it can leave every wait, for a name, a byte or a lock.
    with start_blocking_portal("asyncio") as portal:
        return portal.call(_ask_all, judge, requests, concurrency)


async def _ask_all(judge: Judge, requests: Sequence[Request], concurrency: int) -> list[Any]:
    asyncio.get_running_loop().set_default_executor(_Abandoning())
    slots = asyncio.Semaphore(concurrency)

    async def one(request: Request) -> Any:  # noqa: ANN401
        async with slots:
            body = None if request.write is None else await asyncio.to_thread(request.write)
            return await _with_retries(client, judge, request, body)

    try:
        async with _client(judge) as client, asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(request)) for request in requests]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


class _Abandoning(ThreadPoolExecutor):
    """Threads that an event loop does not wait for at its end: one may hang in the lookup of a name."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=True)


def _client(judge: Judge) -> httpx2.AsyncClient:
    headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
    if judge.token is not None:
        headers["Authorization"] = f"Bearer {judge.token}"
    return httpx2.AsyncClient(
        headers=headers,
        verify=_trust(judge.ca_file) if judge.url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        timeout=httpx2.Timeout(None, connect=judge.connect_timeout),
        limits=httpx2.Limits(max_keepalive_connections=0),  # the judge may close a kept one just when it is used
        follow_redirects=False,
        trust_env=False,  # a proxy would see the token of an unencrypted request to this machine
    )


@lru_cache
def _trust(ca_file: str | None) -> ssl.SSLContext:
    """Trusted certificates: only the file's, or the system's. Reading the latter takes a tenth of a second."""
    return httpx2.create_ssl_context(trust_env=False) if ca_file is None else ssl.create_default_context(cafile=ca_file)


async def _with_retries(client: httpx2.AsyncClient, judge: Judge, request: Request, body: bytes | None) -> Any:  # noqa: ANN401
    def before(state: RetryCallState) -> None:
        if state.attempt_number > 1:
            request.before_repeat()

    attempts = AsyncRetrying(
        before=before,
        retry=retry_if_exception(lambda error: isinstance(error, AttemptError) and error.passing),
        wait=_pause,
        stop=stop_after_attempt(judge.retries + 1),
        reraise=True,
    )
    try:
        return await attempts(_attempt, client, judge, request, body)
    except AttemptError as failure:
        raise failure.after(judge.url, attempts.statistics["attempt_number"]) from None


def _pause(state: RetryCallState) -> float:
    """Seconds before the next attempt: exponential backoff with jitter, and at least the judge's Retry-After."""
    failure = state.outcome.exception() if state.outcome else None
    return max(_jitter(state), failure.wait if isinstance(failure, AttemptError) else 0.0)


async def _attempt(client: httpx2.AsyncClient, judge: Judge, request: Request, body: bytes | None) -> Any:  # noqa: ANN401
    method = "GET" if body is None else "POST"
    try:
        async with (
            asyncio.timeout(judge.timeout),
            client.stream(method, judge.url + request.path, content=body) as response,
        ):
            content = await _read(response, request.limit)
    except TimeoutError:
        what = f"gave no complete answer within {judge.timeout:g} s"
        raise AttemptError(what, "see its log, raise timeout or lower batch_size", passing=True) from None
    except httpx2.RequestError as error:
        raise failure_of_error(error) from None
    if response.status_code != 200:
        raise failure_of_status(response, content, judge.token)
    if len(content) > request.limit:
        raise AttemptError(f"answered with more than {request.limit} bytes", _NO_JUDGE)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise AttemptError("answered with a compressed body, though asked for none", _NO_JUDGE)
    try:
        return request.read(content)
    except ValueError as error:
        raise AttemptError(f"gave an invalid answer, {error}", _NO_JUDGE) from None


async def _read(response: httpx2.Response, limit: int) -> bytes:
    """The raw body, not decompressed. Reading stops once it is longer than the limit."""
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > limit:
            break
    return bytes(content)
