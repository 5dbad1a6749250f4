"""Any Python function as a reward."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from rewards.base import Reward, require_batch
from rewards.checks import first_line, require_instance

if TYPE_CHECKING:
    Rewards = Mapping[str, Reward | Callable[..., Any]]
else:
    Rewards = dict[str, Reward]  # as a config has them, where a FunctionReward names the function


class FunctionReward(Reward):
    """Scores of a function of images and prompts; higher must be better.

    The function is called as ``function(images, prompts)``, with ``(B, 3, H, W)`` floats in ``[0, 1]`` and a list of B
    strings. It returns B numbers as a tensor, a list or an array. With ``each`` it is called once for every image as
    ``function(image, prompt)``, with ``(3, H, W)`` and one string, and returns one number. A function that takes one
    argument gets the images alone, or the image. The range is the function's.

    Copies share the function unless it has state of its own. A pickle needs a function that can be pickled: one of a
    module, not a lambda. Modules of torch are frozen and follow the reward's device, as the networks of every reward.

    Args:
        function: A callable, or its import path, such as "mypackage.scores.redness". In YAML also a ``class_path``
            with ``init_args`` of a class whose instances can be called.
        each: Whether to call it once for every image and not once for a batch.
        is_differentiable: Whether gradients flow from its numbers to the pixels. Otherwise it runs without gradients.
        on_cpu: Whether the function gets the images on the CPU, and samplers may score in a thread beside the network.
            That helps where the function releases Python's lock, as Pillow, numpy and waiting for files do.

    Raises:
        ValueError: If nothing can be imported from that path.
        TypeError: If the object found there, or given, can't be called.

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
            raise TypeError(f"{name} is a {type(found).__name__}: give a function of (images, prompts).")
        super().__init__(*[found] if isinstance(found, nn.Module) else [])
        # In a tuple, as Reward's networks are: nn.Module would register a module.
        self._function = (found,)
        self._each, self._gradients, self._on_cpu = each, is_differentiable, on_cpu
        self._with_prompts = _takes_prompts(found)

    @property
    def function(self) -> Callable[..., Any]:
        """The function itself."""
        return self._function[0]

    @property
    def is_differentiable(self) -> bool:  # type: ignore[override]
        """Whether gradients reach the pixels: the argument."""
        return self._gradients

    @property
    def on_cpu(self) -> bool:  # type: ignore[override]
        """Whether samplers may score in a thread: the argument."""
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
            given = (shown, prompts) if self._with_prompts else (shown,)
            answer = list(map(self.function, *given)) if self._each else self.function(*given)
            return one_per_image(answer, images, getattr(self.function, "__qualname__", type(self.function).__name__))


def as_rewards(given: Rewards) -> dict[str, Reward]:
    """Return rewards by name, with a :class:`FunctionReward` in the place of every plain function.

    Args:
        given: Name to reward, or to a function of ``(images, prompts)`` or of ``(images)`` as FunctionReward calls it.
            Higher must be better.

    Raises:
        TypeError: A value is neither.
    """
    for name, reward in given.items():
        require_instance(f"reward {name!r}", reward, object)
        if isinstance(reward, Metric) and not isinstance(reward, Reward):
            raise TypeError(f"reward {name!r} is a metric: give rewards.MetricReward(metric)")
        if not callable(reward):
            raise TypeError(f"reward {name!r} is a {type(reward).__name__}: give a reward or a function of images")
    return {name: each if isinstance(each, Reward) else FunctionReward(each) for name, each in given.items()}


def _takes_prompts(function: Callable[..., Any]) -> bool:
    """Whether a function takes a second argument by position. One that doesn't tell is called with it."""
    try:
        signature = inspect.signature(function.forward if isinstance(function, nn.Module) else function)
        signature.bind(None, None)
    except ValueError:
        return True
    except TypeError:
        return False
    return True


def _imported(path: str) -> object:
    """The object of an import path."""
    try:
        return pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"function is {path!r}, and importing it failed ({first_line(error)}): "
            "give an import path such as mypackage.scores.redness, of a package that Python finds."
        ) from None


def one_per_image(answer: object, images: Tensor, name: str) -> Tensor:
    """Scores from the answer of a user's code about a batch; gradients are kept.

    Args:
        answer: A tensor, array, list or tuple of B numbers, each perhaps a tensor or array of one element. For one
            image also a tensor or array without axes.
        images: The ``(B, 3, H, W)`` images of the batch.
        name: Name of the code, for errors.

    Returns:
        ``(B,)`` float32 scores on the images' device.

    Raises:
        ValueError: If the answer is anything else.
    """
    remedy = "give one number an image, or take each=True to be asked image by image"
    wrong = ValueError(f"{name} returned {_described(answer)} for {len(images)} images: {remedy}.")
    # Many functions squeeze the answer for a single image.
    numbers = answer[None] if isinstance(answer, Tensor | np.ndarray) and answer.ndim == 0 else answer
    if not isinstance(numbers, Tensor | np.ndarray | list | tuple) or len(numbers) != len(images):
        raise wrong
    try:
        return torch.stack([torch.as_tensor(number).reshape(()).to(images.device).float() for number in numbers])
    except (TypeError, ValueError, RuntimeError) as error:
        raise wrong from error


def _described(answer: object) -> str:
    """Type and size of an answer."""
    kind = type(answer).__name__
    if isinstance(answer, Tensor | np.ndarray):
        return f"{kind} of shape {tuple(answer.shape)}"
    if isinstance(answer, list | tuple) and answer:
        return f"{kind} of {len(answer)} {type(answer[0]).__name__}"
    return kind
