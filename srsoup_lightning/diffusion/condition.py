"""Inputs of a denoising network that come from the prompt."""

from __future__ import annotations

import torch
from torch import Tensor

Condition = dict[str, Tensor]
"""Inputs of the network beside latents and time, by name; one row a prompt, the prompt to draw last."""


def condition_of(guided: bool, **inputs: tuple[Tensor, Tensor]) -> Condition:
    """Rows of a condition: the prompt's (1, ...), and under guidance the negative prompt's before it.

    Args:
        guided: Whether guidance takes a second evaluation.
        inputs: For each input of the network, the tensor of the negative prompt and that of the prompt. Without
            guidance, the former is not used.
    """
    return {name: torch.cat([without, given]) if guided else given for name, (without, given) in inputs.items()}
