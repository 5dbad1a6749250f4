"""Scores of a judge, a reward server on another machine or in another process, over HTTP."""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rewards.base import Reward, require_batch
from rewards.eight_bit import to_eight_bit
from rewards.remote.address import Judge, read_token, require_token_variable, require_url
from rewards.remote.protocol import HEALTH, NAME, Request, read_health, read_scores, scores_path, write_request

_ANSWER_BYTES, _SCORE_BYTES = 64 * 1024, 64  # limits of an answer and, beyond it, of each image


class HTTPReward(Reward):
    """Scores of a judge behind HTTP: ``srsoup serve-reward`` or a server of your own.

    The protocol, version 1, is in docs/remote-rewards.md: JSON with the prompts and the images as PNG files. The
    answer has one finite number for each image. Pixels are rounded to 8 bits, as in an image file. Apart from that the
    scores are those of the judge's reward, with its range and its meaning. No gradient reaches the pixels. The judge
    may get the same images twice when an answer is lost.

    A failure that may pass (no connection, no complete answer in time, status 429 or 5xx) is followed by another
    attempt. The wait before it is random, up to 0.5, 1, 2, ... 30 seconds, and at least the judge's Retry-After. A
    Retry-After of more than 30 seconds ends the attempts. Answers are accepted only if they are complete, of this
    protocol and of reasonable length. Redirects are not followed. Proxies and certificates that the environment names
    are ignored.

    The token is read from the environment at each request. It is in no config, copy, pickle, message or log. It is
    sent only to the host of ``url``, encrypted unless that is this machine.

    Making the reward needs no network. :meth:`check` needs it, before anything expensive.

    Args:
        url: Address of the judge, such as "https://judge.example" or "http://127.0.0.1:8000".
        reward: Name of the reward there.
        token_variable: Name of the environment variable with the bearer token; None sends no token.
        ca_file: PEM file of the only trusted certificates; None trusts those of the system.
        batch_size: Images per request, at least 1.
        concurrency: Requests at the same time, at least 1: one is sent while another is scored.
        timeout: Seconds of a complete attempt, from the connection to the answer's last byte.
        connect_timeout: Seconds of these that the connection may take.
        retries: Attempts after the first.

    Raises:
        ValueError: If an argument is invalid, or a token would be sent unencrypted over a network.
        FileNotFoundError: If there is no such ca_file.
        ModuleNotFoundError: If the packages of the extra ``http`` are not installed.

    Example:
        >>> reward = HTTPReward("http://127.0.0.1:8000", "jpeg")
        >>> reward.score(torch.rand(1, 3, 512, 512), ["coloured noise"]).shape  # doctest: +SKIP
        torch.Size([1])
    """

    on_cpu: ClassVar[bool] = True

    def __init__(
        self,
        url: str,
        reward: str,
        token_variable: str | None = None,
        ca_file: str | Path | None = None,
        batch_size: int = 16,
        concurrency: int = 2,
        timeout: float = 60.0,
        connect_timeout: float = 5.0,
        retries: int = 4,
    ) -> None:
        super().__init__()
        require_token_variable(token_variable)
        self.url, self.token_variable = require_url(url, token_variable), token_variable
        if not NAME.fullmatch(reward):
            raise ValueError(
                f"reward is {reward!r}: give a name that the judge lists, of letters, digits, '.', '_', '-'."
            )
        for name, count, least in (
            ("batch_size", batch_size, 1),
            ("concurrency", concurrency, 1),
            ("retries", retries, 0),
        ):
            if type(count) is not int or count < least:
                raise ValueError(f"{name} is {count}: give a whole number of at least {least}.")
        for name, seconds in (("timeout", timeout), ("connect_timeout", connect_timeout)):
            if not 0 < seconds < math.inf:
                raise ValueError(f"{name} is {seconds}: give seconds above 0.")
        _require_certificates(ca_file)
        _asker()
        self.reward, self.ca_file = reward, None if ca_file is None else str(ca_file)
        self.batch_size, self.concurrency = batch_size, concurrency
        self.timeout, self.connect_timeout, self.retries = timeout, connect_timeout, retries

    def check(self) -> None:
        """Check that the judge has this reward and accepts its batches.

        Raises:
            JudgeError, ValueError: As :meth:`score`, or if the judge lacks the reward or accepts fewer images at once.
        """
        ((names, limits),) = self._ask([Request(HEALTH, None, read_health, _ANSWER_BYTES)])
        if self.reward not in names:
            raise ValueError(
                f"judge {self.url} has no reward {self.reward!r}: choose one of those it lists at {HEALTH}."
            )
        if self.batch_size > limits.get("images", math.inf):
            raise ValueError(
                f"batch_size is {self.batch_size}: judge {self.url} takes at most {limits['images']} images."
            )

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score ``(B, 3, H, W)`` images in ``[0, 1]`` as ``(B,)`` float32 values; pixels are rounded to 8 bits.

        Raises:
            TypeError, ValueError: See :func:`rewards.base.require_batch`.
            JudgeError: A ConnectionError, if the judge can't be reached or answers with anything but finite scores.
            ValueError: If the token is not in the environment.
        """
        require_batch(images, prompts)
        pixels = to_eight_bit(images)
        starts = range(0, len(pixels), self.batch_size)
        portions = [slice(start, start + self.batch_size) for start in starts]
        answers = self._ask([self._request(pixels[part], list(prompts[part])) for part in portions])
        return torch.cat(answers).to(images.device)

    def _request(self, pixels: np.ndarray, prompts: list[str]) -> Request:
        write, read = partial(write_request, pixels, prompts), partial(read_scores, count=len(prompts))
        limit, before_repeat = _ANSWER_BYTES + _SCORE_BYTES * len(prompts), partial(self.before_repeat, len(prompts))
        return Request(scores_path(self.reward), write, read, limit, before_repeat)

    def _ask(self, requests: list[Request]) -> list[Any]:
        token = read_token(self.token_variable)
        judge = Judge(self.url, token, self.ca_file, self.timeout, self.connect_timeout, self.retries)
        return _asker()(judge, requests, self.concurrency)


def _asker() -> Callable[[Judge, Sequence[Request], int], list[Any]]:
    """The client's function, which needs the packages of the extra."""
    try:
        from rewards.remote.client import ask
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            f"HTTPReward needs the package {missing.name}: pip install 'srsoup-lightning[http]'."
        ) from None
    return ask


def _require_certificates(ca_file: str | Path | None) -> None:
    if ca_file is None:
        return
    if not Path(ca_file).is_file():
        raise FileNotFoundError(f"ca_file is {ca_file}: there is no such file; give a PEM file of certificates.")
    try:
        ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise ValueError(f"ca_file is {ca_file}: it holds no certificates; give a PEM file of some.") from None
