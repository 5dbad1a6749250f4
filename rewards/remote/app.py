"""The server's web application: authorisation, limits, and one request scored after another in a thread."""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect

from rewards.base import Reward
from rewards.remote.connection import limited
from rewards.remote.protocol import HEALTH, Limits, read_request, scores_path, write_health, write_scores
from rewards.remote.rate_limit import RateLimit, client_key

_GRACE = 10  # seconds that requests have to end when the server is stopped
_log = logging.getLogger(__name__)


def make_app(rewards: dict[str, Reward], token: str | None, device: str, limits: Limits) -> FastAPI:
    """The web application; arguments as in :func:`rewards.remote.server.serve`, but with the token itself."""
    app = FastAPI(openapi_url=None)
    service = RewardService({name: reward.to(device) for name, reward in rewards.items()}, token, device, limits)
    app.add_api_route(HEALTH, service.health, methods=["GET"])
    app.add_api_route(scores_path("{name}"), service.scores, methods=["POST"])
    app.add_exception_handler(AnyHTTPException, _refuse)
    return app


def make_server(
    app: FastAPI, host: str, port: int, certificate: Path | None, key: Path | None, limits: Limits
) -> uvicorn.Server:
    """The server that runs the application. It is the same with and without uvicorn's optional packages."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        loop="asyncio",
        http=limited(limits),
        ws="none",
        lifespan="off",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    return uvicorn.Server(config)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, AnyHTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


class RewardService:
    """Handlers of the requests; arguments as in :func:`make_app`, with the rewards on their device."""

    def __init__(self, rewards: dict[str, Reward], token: str | None, device: str, limits: Limits) -> None:
        self.rewards, self.token, self.device, self.limits = rewards, token, device, limits
        self.free_slots = limits.waiting + 1
        self.lock = asyncio.Lock()
        self.rate = RateLimit(limits.requests)

    async def health(self, request: Request) -> Response:
        """Names of the rewards, and the limits."""
        self._authorise(request)
        return Response(write_health(sorted(self.rewards), self.limits), media_type="application/json")

    async def scores(self, name: str, request: Request) -> Response:
        """The scores of a request's images."""
        reward = self._admit(name, request)
        self.free_slots -= 1
        try:
            content = await _receive(request, self.limits)
            await self.lock.acquire()
            if await self._nobody_waits(request):
                raise HTTPException(408, "nobody waits for the answer")
            answer = await self._scored(partial(_score, name, reward, content, self.device, self.limits))
        finally:
            self.free_slots += 1
        return Response(answer, media_type="application/json")

    async def _nobody_waits(self, request: Request) -> bool:
        """Whether the client has gone. The lock is released then."""
        try:
            gone = await request.is_disconnected()
        except BaseException:
            self.lock.release()
            raise
        if gone:
            self.lock.release()
        return gone

    async def _scored(self, score: Callable[[], bytes]) -> bytes:
        """The answer of a call in a thread, which releases the lock when it ends. No thread can be stopped before."""
        work = asyncio.ensure_future(asyncio.to_thread(score))
        work.add_done_callback(self._release)
        done, _ = await asyncio.wait([work], timeout=self.limits.scoring)
        if not done:
            raise HTTPException(504, f"the reward has no scores after {self.limits.scoring} s")
        return work.result()

    def _release(self, work: asyncio.Future[bytes]) -> None:
        self.lock.release()
        if not work.cancelled():
            work.exception()  # asyncio reports an error that nobody has looked at

    def _authorise(self, request: Request) -> None:
        # Before the token is compared, so that nobody can try many tokens fast.
        if wait := self.rate.wait(client_key(request.client.host if request.client else "")):
            reason = f"more than {self.limits.requests} requests a minute from one address"
            raise HTTPException(429, reason, {"Retry-After": str(math.ceil(wait))})
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if self.token is None:
            return
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), self.token.encode()):
            raise HTTPException(401, "wrong or no bearer token", {"WWW-Authenticate": "Bearer"})

    def _admit(self, name: str, request: Request) -> Reward:
        """The reward of that name, if the request may be read."""
        self._authorise(request)
        if name not in self.rewards:
            raise HTTPException(404, f"no such reward: choose one of {', '.join(sorted(self.rewards))}")
        # A web page in a browser could send every other type here without permission.
        if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "the body is not declared as application/json")
        if not self.free_slots:
            raise HTTPException(503, "too many requests wait", {"Retry-After": "1"})
        return self.rewards[name]


async def _receive(request: Request, limits: Limits) -> bytes:
    """A request's body. Its bytes are counted as they arrive; its headers are not trusted."""
    content = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.stream():
                content += chunk
                if len(content) > limits.bytes:
                    reason = f"the body has more than {limits.bytes} bytes: send fewer images at once (batch_size)"
                    raise HTTPException(413, reason)
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {limits.seconds} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the body broke off") from None
    return bytes(content)


def _score(name: str, reward: Reward, content: bytes, device: str, limits: Limits) -> bytes:
    """Body of the answer to a request's body. It runs in a thread, from which StopIteration can't be raised."""
    try:
        images, prompts = read_request(content, limits)
    except ValueError as error:
        raise HTTPException(400, str(error)) from None
    try:
        with torch.no_grad():
            return write_scores(reward.score(images.to(device), prompts), len(images))
    except Exception as error:
        _log.exception("reward %r failed", name)
        raise HTTPException(500, f"the reward failed ({type(error).__name__}): the server's log says more") from None
