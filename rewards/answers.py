"""What foreign code answers, as scores."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def one_per_image(answer: object, images: Tensor, name: str) -> Tensor:
    """Turn what somebody else's code says of a batch into scores; gradients are kept.

    Args:
        answer: A tensor, array, list or tuple of B numbers, each perhaps a tensor or array of one element; for one
            image also a tensor or array without axes.
        images: The ``(B, 3, H, W)`` images that they are of.
        name: What the code is called, for errors.

    Returns:
        ``(B,)`` float32 scores on the images' device.

    Raises:
        ValueError: If the answer is anything else.
    """
    remedy = "give one number an image, or take each=True to be asked image by image"
    wrong = ValueError(f"{name} returned {_described(answer)} for {len(images)} images: {remedy}.")
    # Much code squeezes the answer for a single image.
    numbers = answer[None] if isinstance(answer, Tensor | np.ndarray) and answer.ndim == 0 else answer
    if not isinstance(numbers, Tensor | np.ndarray | list | tuple) or len(numbers) != len(images):
        raise wrong
    try:
        return torch.stack([torch.as_tensor(number).reshape(()).to(images.device).float() for number in numbers])
    except (TypeError, ValueError, RuntimeError) as error:
        raise wrong from error


def _described(answer: object) -> str:
    kind = type(answer).__name__
    if isinstance(answer, Tensor | np.ndarray):
        return f"{kind} of shape {tuple(answer.shape)}"
    if isinstance(answer, list | tuple) and answer:
        return f"{kind} of {len(answer)} {type(answer[0]).__name__}"
    return kind
