"""The protocol's bodies: each end reads the other's bodies, and nothing else."""

from __future__ import annotations

import base64
import json
import math
import time

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rewards.eight_bit import write_png
from rewards.remote.protocol import (
    Limits,
    read_health,
    read_request,
    read_scores,
    write_health,
    write_request,
    write_scores,
)
from tests.rewards.test_eight_bit import claiming

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(FLOATS, max_size=5))
def test_scores_come_back_bit_for_bit(scores: list[float]) -> None:
    sent = torch.tensor(scores, dtype=torch.float32)
    torch.testing.assert_close(read_scores(write_scores(sent, len(sent)), len(sent)), sent, rtol=0, atol=0)


@settings(max_examples=60, deadline=None)
@given(JSON)
def test_only_finite_numbers_are_scores(scores: object) -> None:
    body = json.dumps({"protocol": 1, "scores": [scores]}).encode()
    if type(scores) in (int, float) and math.isfinite(scores) and abs(scores) <= torch.finfo(torch.float32).max:
        assert read_scores(body, 1).item() == np.float32(scores)
    else:
        with pytest.raises(ValueError, match=r"score 0|too large|no valid JSON"):
            read_scores(body, 1)


@settings(max_examples=50)
@given(st.binary(max_size=40))
def test_other_bytes_are_refused(content: bytes) -> None:
    for read, *rest in ((read_scores, 1), (read_request, Limits()), (read_health,)):
        with pytest.raises(ValueError, match="the body is"):
            read(content, *rest)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(max_size=5), min_size=1, max_size=4), st.integers(1, 5), st.integers(1, 5))
@example(["[a, {cat}, " * 200, "(a dog:1.2), " * 500], 4, 4)
def test_a_request_comes_back(prompts: list[str], height: int, width: int) -> None:
    rng = np.random.default_rng(height * width)
    pixels = rng.integers(0, 256, (len(prompts), height, width, 3), dtype=np.uint8)
    images, read = read_request(write_request(pixels, prompts), Limits(images=4))
    assert read == prompts
    assert (images.permute(0, 2, 3, 1) * 255).round().byte().numpy().tolist() == pixels.tolist()


def body(images: list[bytes], prompts: list[str] | None = None) -> bytes:
    encoded = [base64.b64encode(image).decode() for image in images]
    prompts = [""] * len(images) if prompts is None else prompts
    return json.dumps({"protocol": 1, "prompts": prompts, "images": encoded}).encode()


SMALL, LARGE = (write_png(np.zeros((side, side, 3), dtype=np.uint8)) for side in (4, 8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"protocol": 1, "images": []}', "prompts are no list of strings"),
        (b'{"protocol": 1, "prompts": [], "images": {}}', "images are no list of strings"),
        (b'{"protocol": 1, "prompts": [], "images": []}', "0 prompts for 0 images: send one per image, at least one"),
        (b'{"protocol": 1, "prompts": [""], "images": [1]}', "images are no list of strings"),
        (b'{"protocol": 1, "prompts": [""], "images": ["%"]}', "image 0 is not in base64: send base64 of 8-bit RGB"),
        (b'{"protocol": 1, "prompts": [""], "images": ["\\u00e9"]}', "image 0 is not in base64"),
        (body([SMALL], ["a", "b"]), "2 prompts for 1 images"),
        (body([SMALL] * 5), "5 images in a request: send at most 4"),
        (body([SMALL, LARGE]), "images of 2 sizes"),
        (body([LARGE, LARGE]), "128 pixels in a request: send at most 100"),
        (body([SMALL, b"GIF89a"]), "image 1 is no PNG file: send base64"),
        (body([SMALL, SMALL[:44]]), "image 1 is a broken PNG file"),
        (body([claiming(2**31 - 1, 2**31 - 1)]), "4611686014132420609 pixels in a request"),
    ],
)
def test_requests_beyond_reason(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_request(content, Limits(images=4, pixels=100))


@pytest.mark.parametrize(("width", "message"), [(4096, "a broken PNG file"), (4097, "16781312 pixels in a request")])
def test_without_other_limits_a_picture_may_have_4096_x_4096_pixels(width: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_request(body([claiming(width, 4096)]), Limits())


@pytest.mark.parametrize(
    ("scores", "message"),
    [(torch.tensor([1.0, math.nan]), "JSON"), (torch.zeros(2, 1), r"\(2, 1\)"), (torch.zeros(1), "1")],
)
def test_a_judge_sends_no_nonsense(scores: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_scores(scores, 2)


def test_health_comes_back() -> None:
    names, limits = read_health(write_health(["a", "b"], Limits(images=3)))
    assert names == ["a", "b"]
    assert limits["images"] == 3
    assert read_health(b'{"protocol": 1, "rewards": ["a"]}') == (["a"], {})
    for bad in (b'{"protocol": 1}', b'{"protocol": 1, "rewards": [], "limits": {"images": "3"}}'):
        with pytest.raises(ValueError, match="are no"):
            read_health(bad)


@pytest.mark.parametrize("limits", [{"images": 0}, {"waiting": -1}, {"bytes": 1.5}, {"seconds": True}])
def test_limits_are_whole_numbers(limits: dict) -> None:
    with pytest.raises(ValueError, match=rf"limits.{next(iter(limits))} is .*: give a whole number"):
        Limits(**limits)


@pytest.mark.parametrize("value", [b"[]", b'"a"', b'{"":0}', b"0"])
def test_no_body_is_read_that_holds_many_values(value: bytes) -> None:
    content = b'{"protocol": 1, "prompts": [%s], "images": []}' % b",".join([value] * 2**20)
    start = time.monotonic()
    with pytest.raises(ValueError, match="more values than 64 images and prompts have"):
        read_request(content, Limits())
    assert time.monotonic() - start < 0.2  # read, they would take memory for seconds, and hold up all other requests
