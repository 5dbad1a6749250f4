"""Messages between a judge, a remote reward server, and its clients: version 1 of docs/remote-rewards.md."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from rewards.checks import refuse_constant
from rewards.eight_bit import from_eight_bit, png_size, read_png, write_png

PROTOCOL = 1
HEALTH = "/v1/health"
Given = TypeVar("Given")
Read = TypeVar("Read")
_MARKS = 1000  # commas and brackets that a prompt may have: a value takes much more memory in Python than in JSON
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def scores_path(name: str) -> str:
    """Path of a reward's scores, below the judge's address."""
    return f"/v1/rewards/{name}/scores"


@dataclass(frozen=True)
class Limits:
    """Limits of a judge on its requests.

    Args:
        images: Images in a request.
        pixels: Pixels of all images in a request together. As images, the default takes 200 MB.
        bytes: Bytes of a request's body.
        waiting: Requests that may wait while one is scored. Their bodies are in memory.
        seconds: Seconds in which a request's head must arrive, and then its body.
        scoring: Seconds that a reward may take for a request.
        requests: Requests per minute from one address. Those of ten seconds may come at once.
        connections: Open connections. One address may have half of them.

    Raises:
        ValueError: If one is no whole number of at least 1, or 0 for ``waiting``.
    """

    images: int = 64
    pixels: int = 2**24
    bytes: int = 2**26
    waiting: int = 32
    seconds: int = 60
    scoring: int = 600
    requests: int = 12_000
    connections: int = 256

    def __post_init__(self) -> None:
        for name, limit in asdict(self).items():
            if type(limit) is not int or limit < (name != "waiting"):
                raise ValueError(f"limits.{name} is {limit}: give a whole number of at least {int(name != 'waiting')}.")


def _nothing() -> None:
    pass


class Request(NamedTuple):
    """One request to a judge.

    Args:
        path: Path below the judge's address.
        write: Makes the body to POST; None makes it a GET.
        read: Reads the answer's body, and raises ValueError if it is invalid.
        limit: Bytes that the answer's body may have.
        before_repeat: Called before each attempt after the first.
    """

    path: str
    write: Callable[[], bytes] | None
    read: Callable[[bytes], Any]
    limit: int
    before_repeat: Callable[[], None] = _nothing


def write_request(pixels: np.ndarray, prompts: list[str]) -> bytes:
    """Body of a request for the scores of (B, H, W, 3) 8-bit pixels with B prompts."""
    images = [base64.b64encode(write_png(image)).decode() for image in pixels]
    return json.dumps({"protocol": PROTOCOL, "prompts": prompts, "images": images}).encode()


def read_request(content: bytes, limits: Limits) -> tuple[Tensor, list[str]]:
    """Images (B, 3, H, W) float32 in [0, 1] and B prompts. All sizes are checked before an image is decompressed.

    Raises:
        ValueError: If the body is invalid or beyond the limits.
    """
    if sum(map(content.count, (b",", b"[", b"{"))) > _MARKS * (limits.images + 1):
        raise ValueError(f"the body holds more values than {limits.images} images and prompts have")
    body = _read_object(content)
    prompts, images = _strings(body, "prompts"), _strings(body, "images")
    if len(prompts) != len(images) or not images:
        raise ValueError(f"{len(prompts)} prompts for {len(images)} images: send one per image, at least one")
    if len(images) > limits.images:
        raise ValueError(f"{len(images)} images in a request: send at most {limits.images} at once (batch_size)")
    files = [_of_image(index, _decode, image) for index, image in enumerate(images)]
    sizes = {_of_image(index, png_size, file) for index, file in enumerate(files)}
    if len(sizes) > 1:
        raise ValueError(f"images of {len(sizes)} sizes in a request: send images of one size")
    ((height, width),) = sizes
    if (count := len(files) * height * width) > limits.pixels:
        raise ValueError(f"{count} pixels in a request: send at most {limits.pixels} at once (batch_size)")
    pixels = torch.empty(len(files), 3, height, width, dtype=torch.float32)
    for index, file in enumerate(files):  # one after the other, so that 8-bit pixels of one exist at a time
        pixels[index] = from_eight_bit(_of_image(index, read_png, file)[None])[0]
    return pixels, prompts


def _of_image(index: int, read: Callable[[Given], Read], given: Given) -> Read:
    """The result of `read` for an image's text or file. Its error names the image."""
    try:
        return read(given)
    except ValueError as error:
        raise ValueError(f"image {index} {error}: send base64 of 8-bit RGB PNG files") from None


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("is not in base64") from None


def write_scores(scores: Tensor, count: int) -> bytes:
    """Body of an answer with (count,) float32 scores.

    Raises:
        ValueError: If they have another shape or are not finite.
    """
    if scores.shape != (count,):
        raise ValueError(f"scores have shape {tuple(scores.shape)} for {count} images")
    return json.dumps({"protocol": PROTOCOL, "scores": scores.tolist()}, allow_nan=False).encode()


def read_scores(content: bytes, count: int) -> Tensor:
    """Scores (count,) float32 of an answer's body.

    Raises:
        ValueError: If the body is anything but that many numbers that are finite in float32.
    """
    scores = _read_object(content).get("scores")
    if not isinstance(scores, list):
        raise ValueError(f"scores are a {type(scores).__name__}, not a list")
    if len(scores) != count:
        raise ValueError(f"{len(scores)} scores for {count} images")
    for index, score in enumerate(scores):
        if type(score) not in (int, float):  # a bool is an int to isinstance
            raise ValueError(f"score {index} is a {type(score).__name__}, not a number")
    try:
        tensor = torch.tensor([float(score) for score in scores], dtype=torch.float64).float()
    except OverflowError:
        raise ValueError("a score is too large for float32") from None
    if not tensor.isfinite().all():
        worst = int((~tensor.isfinite()).nonzero()[0])
        raise ValueError(f"score {worst} is {float(scores[worst]):g}, which is not finite in float32")
    return tensor


def write_health(names: list[str], limits: Limits) -> bytes:
    """Body of a health answer: names of the rewards, and the limits."""
    return json.dumps({"protocol": PROTOCOL, "rewards": names, "limits": asdict(limits)}).encode()


def read_health(content: bytes) -> tuple[list[str], Mapping[str, Any]]:
    """Names of a judge's rewards, and its limits by name. A judge may leave out any limit.

    Raises:
        ValueError: If the body is invalid.
    """
    body = _read_object(content)
    names, limits = _strings(body, "rewards"), body.get("limits", {})
    if not isinstance(limits, dict) or not all(type(limit) is int for limit in limits.values()):
        raise ValueError("limits are no object of whole numbers")
    return names, limits


def _read_object(content: bytes) -> dict[str, Any]:
    """The JSON object in a body, of this version of the protocol."""
    try:
        body = json.loads(content, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        raise ValueError("the body is no valid JSON") from None
    if not isinstance(body, dict):
        raise ValueError(f"the body is a JSON {type(body).__name__}, not an object")
    if type(body.get("protocol")) is not int or body["protocol"] != PROTOCOL:
        raise ValueError(f"the body is not of protocol {PROTOCOL}")
    return body


def _strings(body: dict[str, Any], key: str) -> list[str]:
    values = body.get(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{key} are no list of strings")
    return values
