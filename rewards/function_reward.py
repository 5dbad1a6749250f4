"""Any Python function as a reward."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rewards.answers import one_per_image
from rewards.base import Reward, require_batch


class FunctionReward(Reward):
    """What a function says of images and prompts; higher must be better.

    The function is called as ``function(images, prompts)``, with ``(B, 3, H, W)`` floats in ``[0, 1]`` and a list of B
    strings, and returns B numbers as a tensor, a list or an array; with ``each``, once an image as
    ``function(image, prompt)``, with ``(3, H, W)`` and one string, and returns one number. The range is the function's.

    Copies share the function unless it has state of its own, and pickles need one that can be pickled: a module's, not
    a lambda. Modules of torch are frozen and follow the reward's device, as the networks of every reward do.

    Args:
        function: A callable, or its import path, such as "mypackage.judges.score". In YAML also a ``class_path`` with
            ``init_args`` of a class whose instances can be called.
        each: Whether to call it once an image and not once a batch.
        is_differentiable: Whether gradients flow from its numbers to the pixels; otherwise it runs without them.
        on_cpu: Hand the images over on the CPU, and let samplers score in a thread beside the network. It helps where
            the function lets go of Python's lock, as Pillow, numpy and waiting for files or a network do.

    Raises:
        ValueError: If nothing can be imported from that path.
        TypeError: If what is found, or given, can't be called.

    Example:
        >>> import torch
        >>> def redness(images, prompts):
        ...     return images[:, 0].mean((1, 2))
        >>> FunctionReward(redness).score(torch.full((2, 3, 8, 8), 0.5), ["a rose", "grass"])
        tensor([0.5000, 0.5000])
    """

    def __init__(
        self,
        function: str | Callable[..., Any],
        *,
        each: bool = False,
        is_differentiable: bool = False,
        on_cpu: bool = False,
    ) -> None:
        found = _imported(function) if isinstance(function, str) else function
        if not callable(found):
            name = function if isinstance(function, str) else "function"
            raise TypeError(f"{name} is a {type(found).__name__}: give what takes (images, prompts).")
        super().__init__(*[found] if isinstance(found, nn.Module) else [])
        # In a tuple, as Reward's networks are, lest nn.Module registers a module.
        self._function = (found,)
        self._each, self._gradients, self._on_cpu = each, is_differentiable, on_cpu

    @property
    def function(self) -> Callable[..., Any]:
        """The function itself."""
        return self._function[0]

    @property
    def is_differentiable(self) -> bool:  # type: ignore[override]
        """Whether gradients reach the pixels, as the argument says."""
        return self._gradients

    @property
    def on_cpu(self) -> bool:  # type: ignore[override]
        """Whether samplers may score in a thread, as the argument says."""
        return self._on_cpu

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score ``(B, 3, H, W)`` images in ``[0, 1]`` as ``(B,)`` float32 values, those of the function.

        Raises:
            TypeError, ValueError: See :func:`rewards.base.require_batch`.
            ValueError: If the function returns anything but one number per image.
        """
        require_batch(images, prompts)
        shown = images.cpu() if self._on_cpu else images
        with torch.set_grad_enabled(self._gradients and torch.is_grad_enabled()):
            answer = list(map(self.function, shown, prompts)) if self._each else self.function(shown, prompts)
            return one_per_image(answer, images, getattr(self.function, "__qualname__", type(self.function).__name__))


def _imported(path: str) -> object:
    try:
        return pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"function is {path!r}, and importing it failed ({str(error).splitlines()[0]}): "
            "give an import path such as mypackage.judges.score, of a package that Python finds."
        ) from None
