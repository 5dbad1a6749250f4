"""Base class of all rewards: a ``score`` for each image, and a metric that averages the scores of all batches."""

from __future__ import annotations

import abc
import inspect
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torchmetrics import Metric

if TYPE_CHECKING:
    from typing import Self

_SLACK = 1e-3


def _nothing(images: int) -> None:
    pass


class Reward(Metric, abc.ABC):
    """Rates images: ``score`` gives one number per image, higher is better.

    A subclass writes :meth:`score`, which calls :func:`require_batch` first. It sets ``is_differentiable = True`` if
    gradients flow from the scores to the pixels. It sets ``on_cpu = True`` if ``score`` works on the CPU, wherever the
    images are, and releases Python's lock: a sampler may then score in a thread beside the network. Samplers and
    losses call ``score``. ``update`` and ``compute`` report the mean score of all images of all processes.

    A reward stays in eval mode. Its sums keep their precision when the module around it is cast to another dtype.

    Args:
        *networks: Modules that the score needs, kept as the tuple ``self.networks``. They are frozen. They follow the
            reward from device to device and keep their dtype. They are in no ``state_dict()``, ``parameters()`` or
            checkpoint of the reward or of a module that holds it. Copies and pickles contain them.

    Example:
        >>> import torch
        >>> class Lightness(Reward):
        ...     is_differentiable = True
        ...
        ...     def score(self, images, prompts):
        ...         require_batch(images, prompts)
        ...         return images.mean((1, 2, 3))
        >>> lightness = Lightness()
        >>> lightness.update(torch.ones(2, 3, 8, 8), ["snow", "milk"])
        >>> lightness.update(torch.zeros(1, 3, 8, 8), ["coal"])
        >>> lightness.compute()
        tensor(0.6667)
    """

    full_state_update: bool | None = False
    higher_is_better: bool | None = True
    is_differentiable: bool | None = False
    on_cpu: ClassVar[bool] = False

    before_repeat: Callable[[int], None] = staticmethod(_nothing)
    """A reward that sends images again by itself calls this before, with their number. It may raise."""

    total: Tensor
    images: Tensor
    identity: Tensor

    arguments: Mapping[str, Any]
    """Arguments that it was made with, by name, defaults included. They tell two rewards of one class apart."""

    def __new__(cls, *given: Any, **named: Any) -> Self:  # noqa: ANN401 - those of any subclass
        """Keep the arguments, whatever the subclass makes of them."""
        made = super().__new__(cls)
        try:
            bound = inspect.signature(cls.__init__).bind(made, *given, **named)
        except TypeError:  # of a copy, which gets its attributes later; or __init__ says better what is wrong
            return made
        bound.apply_defaults()
        object.__setattr__(made, "arguments", dict([*bound.arguments.items()][1:]))
        return made

    def __init__(self, *networks: nn.Module) -> None:
        super().__init__()
        # nn.Module registers a module that is set as an attribute, but none inside a tuple.
        self.networks = tuple(network.eval().requires_grad_(False) for network in networks)
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0, dtype=torch.int64), dist_reduce_fx="sum")
        # A MetricCollection merges metrics whose states are close after the first batch: these never are.
        self.add_state("identity", torch.tensor(secrets.randbits(62), dtype=torch.int64), dist_reduce_fx="max")

    @abc.abstractmethod
    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score each image by itself, with its own prompt.

        Args:
            images: ``(B, 3, H, W)`` floats in ``[0, 1]``.
            prompts: ``B`` strings, one per image. A reward that needs no text ignores them.

        Returns:
            ``(B,)`` float32 scores on the images' device, higher is better.
        """

    def check(self) -> None:
        """Check that ``score`` can be called. A run does this before it loads its model.

        A subclass that depends on something outside the process overrides this. It raises the errors of ``score``.
        """

    def update(self, images: Tensor, prompts: list[str]) -> None:
        """Add the scores of a batch to the mean; arguments as in :meth:`score`.

        Raises:
            ValueError: If ``score`` returns anything but one number per image.
        """
        scores = self.score(images, prompts)
        if scores.shape != (len(images),):
            name, shape = type(self).__name__, tuple(scores.shape)
            raise ValueError(f"{name}.score returned shape {shape} for {len(images)} images: return one number each.")
        self.total = self.total + scores.to(self.total).sum()
        self.images = self.images + len(images)

    def compute(self) -> Tensor:
        """Mean score of all images since the last ``reset``, a float32 scalar."""
        return (self.total / self.images).float()

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> Any:  # noqa: ANN401
        """Plot the mean score, or the given values, with matplotlib.

        Args:
            val: One value or a list of values of ``compute`` or ``forward``; by default the present mean.
            ax: The matplotlib axes to draw into; by default those of a new figure.

        Returns:
            The figure and its axes.
        """
        return self._plot(val, ax)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode for every ``mode``: a reward is never trained."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        """Move to the device of ``fn`` and ignore its dtype: a sum in bfloat16 would soon stop growing."""
        device = fn(torch.empty(0, dtype=torch.float32, device=self.device)).device
        for network in self.networks:
            network.to(device)

        def move(tensor: Tensor) -> Tensor:
            # Apple's GPUs have no float64.
            return (tensor.float() if device.type == "mps" and tensor.is_floating_point() else tensor).to(device)

        return super()._apply(move, exclude_state)


def require_images(images: Tensor) -> None:
    """Check that ``images`` is a ``(B, 3, H, W)`` batch of floats in ``[0, 1]``, with a tolerance of 0.001.

    Raises:
        TypeError: If it is no tensor or holds integers.
        ValueError: If it has another shape or range, or holds NaN.
    """
    if not isinstance(images, Tensor):
        raise TypeError(f"images are a {type(images).__name__}: pass a tensor (B, 3, H, W) with values in [0, 1].")
    if not images.is_floating_point():
        raise TypeError(f"images are {images.dtype}, want floats in [0, 1]: pass images.float() / 255.")
    if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        raise ValueError(
            f"images have shape {tuple(images.shape)}, want (B, 3, H, W): "
            "use image[None] for a single image and permute(0, 3, 1, 2) for channels-last ones."
        )
    low, high = (extreme.item() for extreme in images.detach().aminmax())
    if low != low:
        raise ValueError("images hold NaN: run the network or the decoder that made them in float32 or bfloat16.")
    if low < -_SLACK or high > 1 + _SLACK:
        raise ValueError(
            f"pixels span [{low:.4g}, {high:.4g}], want [0, 1]: "
            "turn [-1, 1] into it by (x / 2 + 0.5).clamp(0, 1), and [0, 255] by x / 255."
        )


def require_batch(images: Tensor, prompts: Sequence[str]) -> None:
    """Check the arguments of ``score``: :func:`require_images`, and one prompt per image.

    Raises:
        TypeError: If the images are no float tensor or the prompts no list of strings.
        ValueError: If the images' shape or range is wrong, or if there are more or fewer prompts than images.
    """
    require_images(images)
    if isinstance(prompts, str) or not all(isinstance(prompt, str) for prompt in prompts):
        raise TypeError(f"prompts are {prompts!r}: pass a list with one string per image, e.g. [prompt] * len(images).")
    if len(prompts) != len(images):
        raise ValueError(f"{len(prompts)} prompts for {len(images)} images: pass one per image, repeating if need be.")


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32 if it is in half precision, else unchanged."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
