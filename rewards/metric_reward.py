"""Any torchmetrics metric of images as a reward."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torchmetrics import Metric

from rewards.base import Reward, at_least_float32, require_batch, require_images
from rewards.function_reward import one_per_image
from rewards.pictures import load_image


class MetricReward(Reward):
    """Value of a torchmetrics metric for each image, negated if the metric declares that lower is better.

    The metric gets the images one by one as ``(1, 3, H, W)`` floats in ``[0, 1]``. It is reset before each, so its sum
    or mean is that of one image. A metric that gives B numbers for B images (``reduction="none"``) can be called once
    for a batch with ``each=False``. It must then score each image by itself. The range is the metric's, or its
    negative. Gradients reach the pixels if ``metric.is_differentiable``.

    Metrics of collections, such as FID, can't be rewards. Those with ``full_state_update`` update twice for every
    image. Under DDP processes exchange nothing to score an image. A metric with ``dist_sync_on_step`` would, so leave
    that out. The ``CLIPScore`` of torchmetrics 1.9 fails with transformers 5: use :class:`rewards.CLIPScore`.

    Args:
        metric: The metric. It belongs to the reward from then on, and is frozen with all networks inside.
        reference: An image that the metric compares with, as its second argument: a file, or a tensor ``(3, H, W)`` of
            floats in ``[0, 1]``. Images must have its size.
        with_prompts: Whether the metric's second argument is the list of prompts.
        each: Whether to call the metric for every image and not once for a batch.
        higher_is_better: Replaces the metric's own declaration, which it may lack.

    Raises:
        ValueError: If neither the metric nor the argument declares whether higher is better, if both a reference and
            prompts are given, or if the reference has another shape or range.
        FileNotFoundError: If there is no such reference.

    Example:
        >>> import torch
        >>> from torchmetrics.image import PeakSignalNoiseRatio
        >>> grey = torch.full((3, 8, 8), 0.5)
        >>> likeness = MetricReward(PeakSignalNoiseRatio(data_range=1.0), reference=grey)
        >>> likeness.score(torch.stack([grey + 0.1, grey + 0.01]), ["", ""]).round().int()
        tensor([20, 40], dtype=torch.int32)
    """

    def __init__(
        self,
        metric: Metric,
        *,
        reference: str | Path | Tensor | None = None,
        with_prompts: bool = False,
        each: bool = True,
        higher_is_better: bool | None = None,
    ) -> None:
        name, better = type(metric).__name__, higher_is_better
        if better is None:
            better = metric.higher_is_better
        if better is None:
            raise ValueError(f"{name} doesn't say whether higher is better: pass higher_is_better=True or False.")
        if with_prompts and reference is not None:
            raise ValueError(f"{name} would get both a reference and prompts as its second argument: leave one out.")
        super().__init__(metric)
        self._sign = 1 if better else -1
        self._reference = _image(reference) if isinstance(reference, str | Path) else reference
        if self._reference is not None:
            require_images(self._reference[None])
        self._with_prompts, self._each = with_prompts, each

    @property
    def metric(self) -> Metric:
        """The metric itself."""
        return cast("Metric", self.networks[0])

    @property
    def is_differentiable(self) -> bool:  # type: ignore[override]
        """Whether gradients reach the pixels: the metric's own declaration."""
        return bool(self.metric.is_differentiable)

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score ``(B, 3, H, W)`` images in ``[0, 1]`` as ``(B,)`` float32 values of the metric, or their negatives.

        Raises:
            TypeError, ValueError: See :func:`rewards.base.require_batch`.
            ValueError: If the images have another size than the reference, or the metric gives anything but one number
                per image.
        """
        require_batch(images, prompts)
        if self._reference is not None and images.shape[1:] != self._reference.shape:
            size, wanted = ("x".join(map(str, image.shape[-2:])) for image in (images, self._reference))
            raise ValueError(f"images are {size} pixels, the reference {wanted}: resize the reference to the images.")
        shown = at_least_float32(images).to(self.metric.device)
        with torch.set_grad_enabled(self.is_differentiable and torch.is_grad_enabled()):
            answer = (
                [self._measure(image[None], [prompt]) for image, prompt in zip(shown, prompts, strict=True)]
                if self._each
                else self._measure(shown, prompts)
            )
            return self._sign * one_per_image(answer, images, type(self.metric).__name__)

    def _measure(self, images: Tensor, prompts: list[str]) -> object:
        """The metric's value of these images alone."""
        second: list[Tensor | list[str]] = [prompts] if self._with_prompts else []
        if self._reference is not None:
            second = [self._reference.to(images).expand_as(images)]
        # forward, unlike update and compute, keeps gradients and does not wait for other processes.
        answer = self.metric(images, *second)
        self.metric.reset()
        return answer


def _image(file: str | Path) -> Tensor:
    """The picture in a file, (3, H, W) in [0, 1]."""
    path = Path(file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no reference {str(file)!r}: give an image file, or a tensor (3, H, W) in [0, 1].")
    return load_image(path)
