"""The server's inside: who may ask, how much, and one request judged after the other beside the event loop."""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
from pathlib import Path

import torch
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect

from rewards.base import Reward
from rewards.remote.connection import bounded
from rewards.remote.protocol import HEALTH, Limits, read_request, scores_path, write_health, write_scores
from rewards.remote.rate_limit import Meter, one_asker

_GRACE = 10  # seconds that requests have to end when the server is stopped
_log = logging.getLogger(__name__)


def make_app(rewards: dict[str, Reward], token: str | None, device: str, limits: Limits) -> FastAPI:
    """The web application; arguments as in :func:`rewards.remote.server.serve`, but the token itself."""
    app = FastAPI(openapi_url=None)
    desk = Desk({name: reward.to(device) for name, reward in rewards.items()}, token, device, limits)
    app.add_api_route(HEALTH, desk.health, methods=["GET"])
    app.add_api_route(scores_path("{name}"), desk.scores, methods=["POST"])
    app.add_exception_handler(AnyHTTPException, _refuse)
    return app


def make_server(
    app: FastAPI, host: str, port: int, certificate: Path | None, key: Path | None, limits: Limits
) -> uvicorn.Server:
    """The server that runs the application, the same whatever optional packages are installed."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        loop="asyncio",
        http=bounded(limits),
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


class Desk:
    """Where requests come in; arguments as in :func:`make_app`, with the rewards on their device."""

    def __init__(self, rewards: dict[str, Reward], token: str | None, device: str, limits: Limits) -> None:
        self.rewards, self.token, self.device, self.limits = rewards, token, device, limits
        self.places = limits.waiting + 1
        self.turn = asyncio.Lock()
        self.meter = Meter(limits.requests)

    async def health(self, request: Request) -> Response:
        """Whom one can ask, and how much at once."""
        self._authorise(request)
        return Response(write_health(sorted(self.rewards), self.limits), media_type="application/json")

    async def scores(self, name: str, request: Request) -> Response:
        """The scores of a request's images."""
        reward = self._admit(name, request)
        self.places -= 1
        try:
            content = await _receive(request, self.limits)
            async with self.turn:
                if await request.is_disconnected():
                    raise HTTPException(408, "nobody waits for the answer")
                answer = await asyncio.to_thread(_judge, name, reward, content, self.device, self.limits)
        finally:
            self.places += 1
        return Response(answer, media_type="application/json")

    def _authorise(self, request: Request) -> None:
        # First of all, so that nobody can try out tokens fast.
        if wait := self.meter.wait(one_asker(request.client.host if request.client else "")):
            reason = f"more than {self.limits.requests} requests a minute from one address"
            raise HTTPException(429, reason, {"Retry-After": str(math.ceil(wait))})
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if self.token is None:
            return
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), self.token.encode()):
            raise HTTPException(401, "wrong or no bearer token", {"WWW-Authenticate": "Bearer"})

    def _admit(self, name: str, request: Request) -> Reward:
        """The reward of that name, if the request may be read at all."""
        self._authorise(request)
        if name not in self.rewards:
            raise HTTPException(404, f"no such reward: choose one of {', '.join(sorted(self.rewards))}")
        # A web page that a browser has open could send any other type here without asking.
        if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "the body is not declared as application/json")
        if not self.places:
            raise HTTPException(503, "too many requests wait", {"Retry-After": "1"})
        return self.rewards[name]


async def _receive(request: Request, limits: Limits) -> bytes:
    """A request's body, counted as it comes, whatever its headers say."""
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


def _judge(name: str, reward: Reward, content: bytes, device: str, limits: Limits) -> bytes:
    """The answer's body to a request's body; runs in a thread, where an error may be no StopIteration."""
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
