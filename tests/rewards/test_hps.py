"""HPSv2 against the cosine behind the authors' preprocessing, done with PIL and done with floats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from rewards import HPSv2
from rewards.networks.clip_pixels import CLIPPixels
from tests.rewards.conftest import PROMPTS, SIZE, Files, built, pictures, raw_embeddings, smooth

SHAPES = [(64, 64), (50, 75), (75, 51), (SIZE, 9), (12, 9), (5, SIZE), (40, 7)]


def placed(picture: Image.Image, edge: int) -> np.ndarray:
    """The longest side resized to the edge, black around it, the odd line of which is last."""
    width, height = (round(side * edge / max(picture.size)) for side in picture.size)
    canvas = Image.new(picture.mode, (edge, edge))
    canvas.paste(picture.resize((width, height), Image.Resampling.BICUBIC), ((edge - width) // 2, (edge - height) // 2))
    return np.asarray(canvas)


def official(folder: str, images: Tensor, floats: bool) -> Tensor:
    """Pixel values by Pillow, from its images of floats, as the authors resize, or from its 8-bit images."""
    if floats:
        planes = [[placed(Image.fromarray(plane.numpy()), SIZE) for plane in image] for image in images]
        padded = np.stack([np.stack(image, axis=-1) for image in planes])
    else:
        padded = np.stack([placed(picture, SIZE) for picture in pictures(images)]) / np.float32(255)
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    mean, std = (np.asarray(value, dtype=np.float32) for value in (processor.image_mean, processor.image_std))
    return torch.from_numpy((padded - mean) / std).permute(0, 3, 1, 2)


# Rounded to 8 bits and with overshoot cut off: at most 0.42 points on these, that spread over 30 and more.
@pytest.mark.parametrize("shape", SHAPES)
def test_the_papers_formula(files: Files, shape: tuple[int, int]) -> None:
    images, reward = smooth(*shape), built("hps", files)
    pixels = official(files.clip, images, floats=True)
    torch.testing.assert_close(reward._pixels(images), pixels, rtol=0, atol=1e-4)
    scores = reward.score(images, PROMPTS)
    for inputs, slack in {pixels: 1e-2, official(files.clip, images, floats=False): 1.0}.items():
        looks, words = raw_embeddings(files.clip, inputs, PROMPTS)
        torch.testing.assert_close(scores, 100 * (looks * words).sum(-1), rtol=0, atol=slack)


def test_squares_are_framed_as_clip_frames_them_and_others_on_request(files: Files) -> None:
    padding, clip = built("hps", files), built("clip", files)
    for edge, slack in ((SIZE, {}), (50, {"rtol": 0, "atol": 0.5})):
        images = smooth(edge, edge)
        torch.testing.assert_close(padding.score(images, PROMPTS), clip.score(images, PROMPTS), **slack)
    images = smooth(50, 75)
    cropped = HPSv2(files.clip, fit="crop").score(images, PROMPTS)
    torch.testing.assert_close(cropped, clip.score(images, PROMPTS), rtol=0, atol=0)
    assert (cropped - padding.score(images, PROMPTS)).abs().max() > 1


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 24))
def test_nothing_of_an_image_is_lost(height: int, width: int, edge: int) -> None:
    pixels = CLIPPixels(size=5, mode="bilinear", crop=(7, 9), scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3).padded(edge)
    framed = pixels(torch.ones(1, 3, height, width))
    assert framed.shape == (1, 3, edge, edge)
    rows, columns = (framed[0, 0] > 0.5).any(1), (framed[0, 0] > 0.5).any(0)
    for lines, side in ((rows, height), (columns, width)):
        assert lines.sum() == max(1, round(side * (edge / max(height, width))))
        before = int(lines.int().argmax())
        after = edge - before - int(lines.sum())
        assert after - before in (0, 1)
