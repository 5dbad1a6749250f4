"""Losses of an objective that matches clean samples: DiffusionNFT and advantage weighted matching."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor

from rewards.checks import require_choice
from srsoup_lightning.finetune.formulas import clipped_loss, velocity_distance

Scale = Literal["identity", "t", "t2", "huber", "ghuber"]
SMALLEST = 1e-5  # smallest mean error that NFT divides by, and that AWM's roots tell from 0


class Match(NamedTuple):
    """Predictions at noised samples ``signal * clean + share * noise``.

    Attributes:
        clean: Samples (B, C, H, W).
        x0: Clean latents (B, C, H, W) that the trained weights predict, with the graph.
        share: Share of the noise, in (0, 1].
        old: Clean latents (B, C, H, W) that the old weights predict. None if the loss does without them.
        log_prob: Log-likelihoods (B,) of the samples under the weights that drew them. None if the loss has none.
    """

    clean: Tensor
    x0: Tensor
    share: float
    old: Tensor | None = None
    log_prob: Tensor | None = None


class MatchingLoss(abc.ABC):
    """Loss of predictions at noised samples, from the advantages of the samples."""

    has_log_prob: ClassVar[bool] = False
    """Whether the loss compares log-likelihoods with those of the weights that drew the samples."""

    @property
    @abc.abstractmethod
    def off_policy(self) -> bool:
        """Whether the old weights draw the samples. Otherwise, the trained weights do."""

    @property
    @abc.abstractmethod
    def takes_old(self) -> bool:
        """Whether the loss takes predictions of the old weights."""

    @property
    @abc.abstractmethod
    def bounded(self) -> bool:
        """Whether something keeps the model from going ever further away from samples of low reward."""

    def log_prob(self, clean: Tensor, x0: Tensor, share: float) -> Tensor:
        """Return log-likelihoods (B,) of samples, if :attr:`has_log_prob`; for the arguments see :class:`Match`."""
        raise NotImplementedError(f"{type(self).__name__} has no log-likelihoods")

    @abc.abstractmethod
    def losses(self, advantage: Tensor, limit: float, match: Match) -> tuple[Tensor, dict[str, Tensor]]:
        """Return losses (B,) and quantities to log, (B,) by name.

        Args:
            advantage: Advantages (B,).
            limit: Largest magnitude of an advantage.
            match: Predictions.
        """


@dataclass(frozen=True)
class NFT(MatchingLoss):
    """DiffusionNFT (Zheng et al. 2025, arXiv:2509.16117): good samples pull the model, and bad ones its mirror image.

    ``limit * (p l+ + (1 - p) l-) / beta``, with ``p = 1/2 + A / (2 limit)``. l+ is the error of
    ``beta x0 + (1 - beta) x0_old``, and l- that of ``(1 + beta) x0_old - beta x0``, each divided by its own mean
    magnitude. A clean latent is affine in the output of a network. So this is the paper's loss for networks of any
    prediction type. Errors are in float64.

    Args:
        beta: Step of the mixture away from the old model, above 0. Less is faster and less stable. The authors take 1,
            and 0.1 for text rendering and for several rewards.

    Raises:
        ValueError: beta is not above 0.
    """

    beta: float = 1.0

    off_policy: ClassVar[bool] = True
    takes_old: ClassVar[bool] = True
    bounded: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise ValueError(f"beta of NFT is {self.beta}: give a number above 0, such as 1.0 or 0.1")

    def losses(self, advantage: Tensor, limit: float, match: Match) -> tuple[Tensor, dict[str, Tensor]]:
        """See :meth:`MatchingLoss.losses`."""
        clean, x0, share, old, _ = match
        assert old is not None
        good = (0.5 + 0.5 * advantage.double() / limit).clamp(0, 1)
        positive = _relative_error(self.beta * x0.double() + (1 - self.beta) * old.double(), clean)
        negative = _relative_error((1 + self.beta) * old.double() - self.beta * x0.double(), clean)
        value = limit * (good * positive + (1 - good) * negative) / self.beta
        return value, {"distance_from_old": velocity_distance(x0, old, share)}


@dataclass(frozen=True)
class AWM(MatchingLoss):
    """Advantage weighted matching (Xue et al. 2025, arXiv:2509.25050): PPO on the matching loss as a log-likelihood.

    ``max(-A r, -A clip(r, 1 - c, 1 + c)) + old_kl |v - v_old|^2``, with ``A`` divided by its limit. The ratio r is that
    of likelihoods under the trained weights and under those that drew the sample, with ``log p = -f(|v - v_clean|^2)``.
    Norms are means over the numbers of a latent. The time t in f is the share of the noise. For a flow, this is the
    time of the paper. Velocities are those of :func:`velocity_distance`, and all is in float64.

    Args:
        scale: The function f of an error l: "identity" is l, "t" is t l, "t2" is t^2 l, "huber" is
            ``t (sqrt(l + 1e-10) - 1e-5)``, and "ghuber" is ``t ((l + 1e-10)^q - 1e-10^q) / q``. Clip and learning rate
            do not carry over from one to another.
        power: The q of "ghuber", above 0.
        clip: Largest change c of a ratio that is rewarded, above 0. The first update of a round has a ratio of 1. From
            1 on, nothing holds back from bad samples.
        old_kl: Weight of the distance from the old weights, at least 0. 0 makes no evaluation of them.
        off_policy: The old weights draw the samples. The published settings are on-policy.

    Raises:
        ValueError: The scale is unknown, or a number is outside its range.
    """

    scale: Scale = "ghuber"
    power: float = 0.25
    clip: float = 1.0
    old_kl: float = 1.0
    off_policy: bool = False

    has_log_prob: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_choice("scale", self.scale, Scale)
        for name in ("power", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} of AWM is {getattr(self, name)}: give a number above 0")
        if not self.old_kl >= 0:
            raise ValueError(f"old_kl of AWM is {self.old_kl}: give at least 0")

    @property
    def takes_old(self) -> bool:
        """See :attr:`MatchingLoss.takes_old`."""
        return self.old_kl > 0

    @property
    def bounded(self) -> bool:
        """See :attr:`MatchingLoss.bounded`."""
        return self.old_kl > 0 or self.clip < 1

    def log_prob(self, clean: Tensor, x0: Tensor, share: float) -> Tensor:
        """See :meth:`MatchingLoss.log_prob`."""
        error, offset = velocity_distance(x0, clean, share), SMALLEST**2
        if self.scale in ("huber", "ghuber"):
            power = 0.5 if self.scale == "huber" else self.power
            scaled = (error + offset) ** power - offset**power
            return -share * scaled / (1.0 if self.scale == "huber" else power)
        return -(share ** {"identity": 0, "t": 1, "t2": 2}[self.scale]) * error

    def losses(self, advantage: Tensor, limit: float, match: Match) -> tuple[Tensor, dict[str, Tensor]]:
        """See :meth:`MatchingLoss.losses`."""
        assert match.log_prob is not None
        ratio = (self.log_prob(match.clean, match.x0, match.share) - match.log_prob).exp()
        value = clipped_loss(advantage / limit, ratio, self.clip)
        logs = {"ratio/mean": ratio, "ratio/clipped": ((ratio - 1).abs() > self.clip).double()}
        if match.old is not None:
            distance = velocity_distance(match.x0, match.old, match.share)
            value, logs = value + self.old_kl * distance, logs | {"distance_from_old": distance}
        return value, logs


def _relative_error(x0: Tensor, clean: Tensor) -> Tensor:
    """Return ``mean_d(e^2) / mean_d|e|``, (B,), of errors e, where the divisor has no gradient and is 1e-5 at least."""
    error = (x0 - clean.double()).flatten(1)
    return error.square().mean(1) / error.detach().abs().mean(1).clamp(min=SMALLEST)


@dataclass(frozen=True)
class Decay:
    """Share of the old weights that stays after a round: ``min(rate * max(round - flat, 0), limit)``.

    Rounds count from 1. The sources count optimizer steps. This is the same with one step in a round. The defaults are
    type 1 of DiffusionNFT. Its type 0 has rate 0, so that samples are always on-policy. Its type 2 has flat 75, rate
    0.0075 and limit 0.999. AWM has limit 0.3.

    Args:
        rate: Growth of the share in each round, at least 0.
        limit: Largest share, in [0, 1).
        flat: Number of rounds in which no share stays, at least 0.

    Raises:
        ValueError: A number is outside its range.
    """

    rate: float = 0.001
    limit: float = 0.5
    flat: int = 0

    def __post_init__(self) -> None:
        for name in ("rate", "flat"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} of the decay is {getattr(self, name)}: give at least 0")
        if not 0 <= self.limit < 1:
            raise ValueError(f"limit of the decay is {self.limit}: give a share in [0, 1), such as 0.5")

    def after(self, rounds: int) -> float:
        """Return the share after that number of rounds."""
        return min(self.rate * max(rounds - self.flat, 0), self.limit)
