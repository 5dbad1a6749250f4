"""Preferences between trajectories, in which early denoising steps count more than late ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.diffusion.transition import Kernel
from srsoup_lightning.finetune.base import Loss, Objective
from srsoup_lightning.finetune.policy import Policy
from srsoup_lightning.finetune.reinforcement import value_in_first_units
from srsoup_lightning.finetune.rollout import Memory, Rollout, Scores
from srsoup_lightning.finetune.steps import AllSteps, steps_with_noise
from srsoup_lightning.problem import Problem


def list_likelihood(logits: Tensor) -> Tensor:
    """Return the log-probabilities (B,) of orders in the model of Plackett and Luce.

    ``sum_k (l_k - log sum_{i >= k} exp l_i)``: the best is drawn first, by a softmax, then the next one of the rest.
    With K = 2 it is the model of Bradley and Terry, ``log sigmoid(l_1 - l_2)``.

    Args:
        logits: Logits (B, K), those of the best first.
    """
    return (logits - logits.flip(1).logcumsumexp(1).flip(1)).sum(1)


def discounted(steps: Sequence[int], gamma: float) -> Tensor:
    """Return the probabilities (K,) of steps, in proportion to ``gamma^step``, in float64."""
    weights = gamma ** torch.tensor(steps, dtype=torch.float64)
    return weights / weights.sum()


def ranked(values: Tensor, compared: int, noise: NoiseSource) -> Tensor:
    """Return indices (S,) that sort each comparison of K trajectories, the best one first, and ties at random.

    Args:
        values: Values (S,) of the trajectories. Each K in a row are a comparison.
        compared: Number K of trajectories in a comparison.
        noise: Source of the random order of ties.
    """
    shuffled = noise.uniform(len(values), "ties").cpu().view(-1, compared).argsort(1)
    groups = values.view(-1, compared)
    order = groups.gather(1, shuffled).argsort(dim=1, descending=True, stable=True)
    first = torch.arange(0, len(values), compared).unsqueeze(1)
    return (first + shuffled.gather(1, order)).flatten()


@dataclass(frozen=True, kw_only=True)
class DenseDPO(Objective):
    """Preference optimisation on whole trajectories, with a temporal discount.

    "A Dense Reward View on Aligning Text-to-Image Diffusion with Preference" (Yang et al. 2024, arXiv:2402.08265). The
    model's own samples of a prompt are compared, `compared` at a time, and rewards serve to rank them alone. The logit
    of a trajectory is ``temperature * mean_t clip(log p(x_{t+1} | x_t) - log p_base(x_{t+1} | x_t))``. Its steps t are
    drawn with replacement, in proportion to ``gamma^t``. Step 0 is the noisiest one. The loss is minus the
    log-likelihood of the order, see :func:`list_likelihood`. Log-likelihoods of steps are means over the numbers of a
    latent. Steps without noise are not drawn. The reference is the base model.

    The clip bounds the logits, so that the loss never gets far from that of equal ones. Beyond the clip a step has no
    gradient. So the logged ``log_ratio/clipped`` says how much of the round has reached it, and ``accuracy`` how many
    pairs are in order.

    The authors keep samples for thousands of updates. Here these are ``updates`` and `draws` of one round. For several
    prompts they take a clip of 5e-4, a temperature of 12.5 and one step for each logit.

    Each pass of a trajectory costs an evaluation of the model and one of the base model for each of its steps, and as
    many gradients. The graph of a comparison is in memory at once.

    Args:
        compared: Number K of trajectories in a comparison. The group size must be a multiple of it.
        gamma: Discount of a step, in (0, 1]. 1 has all steps count alike.
        temperature: Factor C of the logits, above 0.
        clip: Largest magnitude of a step's log-likelihood ratio, above 0.
        steps_per_logit: Number of steps that are drawn for a logit. The trajectories of a group share them.
        draws: Number of times that each comparison is trained in a round, each with steps of its own.

    Raises:
        ValueError: An argument is outside its range, or two of them do not fit together.
    """

    compared: int = at_least(2, default=2)
    gamma: float = 0.9
    temperature: float = 10.0
    clip: float = 1e-4
    steps_per_logit: int = at_least(1, default=3)
    draws: int = at_least(1, default=4)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}: give a number in (0, 1], such as 0.9")
        for name in ("temperature", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number above 0")
        if self.group_size % self.compared:
            raise ValueError(
                f"group_size is {self.group_size}, and {self.compared} trajectories are compared: give a multiple"
            )
        if self.train_batch < self.latents_of_item:
            raise ValueError(
                f"train_batch is {self.train_batch}, and a comparison has {self.compared} x {self.steps_per_logit} "
                f"latents in its graph (compared x steps_per_logit): give at least {self.latents_of_item}"
            )

    @property
    def items(self) -> int:
        """See :attr:`Objective.items`; the comparisons."""
        return self.group_size // self.compared

    @property
    def latents_of_item(self) -> int:
        """See :attr:`Objective.latents_of_item`; those of all steps of a comparison."""
        return self.compared * self.steps_per_logit

    def check(self, problem: Problem) -> None:
        """See :meth:`Objective.check`."""
        AllSteps().check(problem.kernel)

    def passes(self, kernel: Kernel) -> int:
        """See :meth:`Objective.passes`."""
        return self.draws

    def collect(self, rollout: Rollout) -> Tensor:
        """See :meth:`Objective.collect`."""
        noisy = steps_with_noise(rollout.problem.kernel)
        drawn = rollout.noise.uniform(self.draws * self.steps_per_logit, "trained steps").cpu().double()
        places = torch.searchsorted(discounted(noisy, self.gamma).cumsum(0), drawn, right=True)
        rollout.steps = tuple(noisy[place] for place in places.clamp_max(len(noisy) - 1).tolist())
        kept: dict[str, list[Tensor]] = {"state": [], "next": []}
        for number, state, _, following in rollout.trajectory():
            if number in rollout.steps:
                kept["state"].append(state.cpu())
                kept["next"].append(following.cpu())
        rollout.tensors = {name: torch.stack(tensors, 1) for name, tensors in kept.items()}
        return following

    def prepare(self, own: Sequence[Rollout], everyone: Sequence[Scores], memory: Memory) -> dict[str, float]:
        """See :meth:`Objective.prepare`; the best trajectory of each comparison comes first."""
        rewards = torch.cat([group.rewards for group in everyone])
        value = value_in_first_units(rewards, memory, own[0].value)
        for rollout in own:
            order = ranked(everyone[rollout.index].values(value), self.compared, rollout.noise)
            rollout.tensors = {name: tensor[order] for name, tensor in rollout.tensors.items()}
        return {"value": float(torch.cat([group.values(value) for group in everyone]).mean())}

    def loss(self, rollout: Rollout, part: int, index: int, policy: Policy) -> Loss:
        """See :meth:`Objective.loss`; the passes draw steps for the logits."""
        problem, comparisons, kept = rollout.problem, self.rows(part), sorted(set(rollout.steps))
        rows = slice(comparisons.start * self.compared, comparisons.stop * self.compared)
        drawn = rollout.steps[index * self.steps_per_logit :][: self.steps_per_logit]
        ratios = []
        for step in drawn:
            state, following = (rollout.take(name, rows, kept.index(step)) for name in ("state", "next"))
            with policy.reference():
                base = problem.kernel.transition(step, state, problem.denoise(state, step)).log_prob(following)
            problem.meter.count_gradients(len(state))
            with problem.graph(type(self).__name__, ()):
                transition = problem.kernel.transition(step, state, problem.denoise(state, step))
                ratios.append(transition.log_prob(following) - base)
        with problem.graph(type(self).__name__, ()):
            ratio = torch.stack(ratios, 1)
            clipped = ratio.clamp(-self.clip, self.clip).mean(1)
            logits = self.temperature * clipped.view(-1, self.compared)
            value = -list_likelihood(logits).mean()
        logits, ratio = logits.detach(), ratio.detach()
        better, worse = torch.triu_indices(self.compared, self.compared, offset=1)
        logs = {
            "accuracy": ((logits[:, better] - logits[:, worse]).sign().mean() + 1) / 2,
            "margin": (logits[:, 0] - logits[:, -1]).mean(),
            "log_ratio/clipped": (ratio.abs() > self.clip).float().mean(),
            "log_ratio/mean": ratio.mean(),
        }
        return Loss(value, logs)
