"""Policy for failing rewards, cached answers and budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from rewards.checks import require_choice

Failing = Literal["raise", "worst"]


class RewardError(RuntimeError):
    """A reward raised an error, took too long, or returned anything but one finite number for each image."""


class NoGradientError(TypeError):
    """A method needs the gradient of a reward that has none."""


@dataclass(frozen=True)
class OraclePolicy:
    """Policy for asking rewards.

    Args:
        failing: Reaction to a reward that still fails after all retries. "raise" ends the run and keeps what is
            finished. With "worst", a picture without a score gets the worst one among the pictures that were scored
            with it (the candidates of a denoising step, or the final pictures of a soup). The ledger counts these
            pictures as ``failures``, and samples.jsonl names the rewards of final ones.
        retries: Number of times that a reward is asked again about pictures that it failed on. Each counts as queries.
        timeout: Seconds after which a call to a reward has failed. None waits. A call that is out of time cannot be
            stopped; its answer is ignored.
        cached: Names of rewards that are never asked twice about the same picture and prompt in one process. This pays
            for rewards that cost more than comparing pictures. The ledger counts cached answers as ``hits``, apart from
            ``queries``.
        budgets: {reward: images}: highest number of images that a paid reward may be sent in the whole run, including
            candidates, final pictures and repetitions. All processes count together, and so do all parts of a run that
            is continued, where a SampleWriter keeps the count in the run directory. Without one, the module counts for
            itself. When a budget is spent, the soup under way is abandoned, and the run ends.

    Raises:
        ValueError: An argument is outside its range.
    """

    failing: Failing = "raise"
    retries: int = field(default=0, metadata={"operational": True})
    timeout: float | None = field(default=None, metadata={"operational": True})
    cached: Sequence[str] = field(default=(), metadata={"operational": True})
    budgets: Mapping[str, int] = field(default_factory=dict, metadata={"operational": True})

    def __post_init__(self) -> None:
        require_choice("failing", self.failing, Failing)
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}: give 0 or more")
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout is {self.timeout}: give seconds above 0, or None to wait")
        for name, images in self.budgets.items():
            if images < 1:
                raise ValueError(f"the budget of {name!r} is {images}: give at least 1 image, or leave it out")


def with_worst(scores: Tensor, name: str, when: str) -> Tensor:
    """Replace missing scores (NaN) of a reward, in (B,), by the worst of the others.

    Raises:
        RewardError: There is no other score.
    """
    missing = scores.isnan()
    if not missing.any():
        return scores
    if missing.all():
        raise RewardError(
            f"reward {name!r} failed on all {len(scores)} pictures {when}, so that there is no worst score to take: "
            "check the reward, or raise its retries"
        )
    return torch.where(missing, scores[~missing].min(), scores)


def finite_gradient(gradient: Tensor, of: str) -> Tensor:
    """Return a gradient, detached, once it is known to be finite.

    Args:
        gradient: Gradient of any shape.
        of: Name of the differentiated value, for the error.

    Raises:
        RewardError: A number in it is not finite.
    """
    if not gradient.isfinite().all():
        raise RewardError(
            f"the gradient of {of} is not finite: check the reward for roots and divisions at 0, and let loading.dtype "
            "be bfloat16 or float32 rather than float16"
        )
    return gradient.detach()
