"""Images as files hold them: 8 bits a channel."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from rewards.base import at_least_float32


def eight_bit(images: Tensor) -> np.ndarray:
    """Images ``(B, 3, H, W)`` in ``[0, 1]`` as ``(B, H, W, 3)`` bytes, rounded, for Pillow; no gradient comes along."""
    levels = at_least_float32(images.detach()).mul(255).round().clamp(0, 255).byte()
    return levels.permute(0, 2, 3, 1).cpu().numpy()
