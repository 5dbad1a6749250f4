"""The search as a teacher: a LoRA learns the steps that a search has found."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.diffusion.transition import Kernel
from srsoup_lightning.finetune.base import Loss, Objective
from srsoup_lightning.finetune.formulas import mean_deviation
from srsoup_lightning.finetune.policy import Policy
from srsoup_lightning.finetune.rollout import Memory, Rollout
from srsoup_lightning.finetune.searches import OnlineSearch, Searches
from srsoup_lightning.problem import Problem
from srsoup_lightning.search.gradient import project_to_shell
from srsoup_lightning.search.scalarise import Value


@dataclass(frozen=True, kw_only=True)
class SoupDistillation(Objective):
    """Distillation of a search by search gradients into the adapter.

    At a searched step, the search knows a gradient G_j of each reward j. For a preference w, it steps to
    ``mu + sigma u`` with ``u = shell(sum_j w_j G_j)``. The loss lets the model's own mean move along it::

        mean_d (mu_theta(x, w) - (mu_old(x, w) + alpha sigma u))^2 / sigma^2

    mu_old is the mean of the model that the search ran on: the tuned one as it was at the start of the round, or the
    base model for searches that runs have kept. The minimum is the mean direction ``alpha E[u | x, w]``. At
    alpha 1, the model gains in a step what the search gains on average, to first order, and asks no rewards. This is a
    policy gradient with as many samples at a state as the search has candidates, and with credit for each step.

    Where the preference is an input of the adapter, the gradients of one state give targets for every preference
    between the rewards that it was searched for. So each pass draws preferences anew, without a query.

    Args:
        group_size: Number of trajectories of a group. Where the preference is an input, they are one soup: the rewards
            alone, and then preferences between them. If not, each one is a soup of the one preference.
        searches: Source of the states and gradients: searches on the tuned model in each round, or kept ones.
        alpha: Share of the search's step that the model learns, above 0.
        hindsight: Draw preferences anew in each pass, where the preference is an input of the adapter. They are between
            the rewards that the trajectory was searched for, so a reward alone stays alone. It costs one evaluation of
            the old model for each latent.
        draws: Number of passes over the states of a round.
        kl: Weight of the divergence ``|mu_theta - mu_base|^2 / (2 d sigma^2)`` from the base model, at least 0. 0
            makes no evaluation of it.

    Raises:
        ValueError: A number is outside its range, or eta is 0, which leaves nothing to search.
    """

    searches: Searches = field(default_factory=OnlineSearch)
    alpha: float = 1.0
    hindsight: bool = True
    draws: int = at_least(1, default=1)
    kl: float = at_least(0, default=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.alpha > 0:
            raise ValueError(f"alpha is {self.alpha}: give a share of the search's step above 0, such as 1.0")
        if self.eta == 0:
            raise ValueError("eta is 0: a step without noise is not searched, give eta in (0, 1]")

    def prompts(self, given: Sequence[str], rewards: Sequence[str], value: Value) -> Sequence[str]:
        """See :meth:`Objective.prompts`; those of kept searches."""
        return self.searches.prompts(given, rewards, value)

    def check(self, problem: Problem) -> None:
        """See :meth:`Objective.check`."""
        self.searches.check(self, problem)

    def passes(self, kernel: Kernel) -> int:
        """See :meth:`Objective.passes`; the searched steps, as often as they are drawn."""
        return self.draws * len(self.searches.steps(self, kernel))

    def sampling(self, policy: Policy, memory: Memory) -> AbstractContextManager[None]:
        """See :meth:`Objective.sampling`; keeps the weights that the search runs on."""
        if self.hindsight and not self.searches.on_base:
            memory["old"] = policy.weights()
        return nullcontext()

    def collect(self, rollout: Rollout) -> None:
        """See :meth:`Objective.collect`; the search asks the rewards itself."""
        rollout.steps = self.searches.steps(self, rollout.problem.kernel)
        rollout.tensors = {name: tensor.cpu() for name, tensor in self.searches.run(self, rollout)._asdict().items()}
        rollout.tensors["found"] = (rollout.tensors["gradients"].flatten(3) != 0).any(3).any(1)  # (S, M)

    def loss(self, rollout: Rollout, part: int, index: int, policy: Policy) -> Loss:
        """See :meth:`Objective.loss`; the passes are the searched steps."""
        problem, rows, (draw, place) = rollout.problem, self.rows(part), divmod(index, len(rollout.steps))
        step, x = rollout.steps[place], rollout.take("states", rows, place)
        sigma, weights = problem.kernel.sigma(step), rollout.tensors["weights"][rows].to(problem.device)
        old = rollout.take("means", rows, place)
        if self.hindsight and (drawn := rollout.redrawn(rows, draw, step)) is not None:
            weights = self._redrawn(rollout, rows, drawn)
            if not self.searches.on_base:
                with policy.acting(rollout.memory["old"]):
                    old = problem.kernel.mean(step, x, problem.denoise(x, step, preferences=weights))
        direction = torch.einsum("bm,bm...->b...", weights, rollout.take("gradients", rows, place))
        shift = self.alpha * project_to_shell(direction, torch.zeros_like(direction[:1]))
        base = None
        if self.kl:
            with policy.reference():
                base = problem.kernel.mean(step, x, problem.denoise(x, step, preferences=weights))
        problem.meter.count_gradients(len(x))
        with problem.graph(type(self).__name__, ()):
            mean = problem.kernel.mean(step, x, problem.denoise(x, step, preferences=weights))
            value = 2 * mean_deviation(mean, old + sigma * shift, sigma)
            logs = {"learned": _alignment((mean.detach() - old) / sigma, shift)}
            if base is not None:
                logs["kl"] = mean_deviation(mean, base, sigma)
                value = value + self.kl * logs["kl"]
        return Loss(value.mean(), {name: log.detach().mean() for name, log in logs.items()})

    def _redrawn(self, rollout: Rollout, rows: slice, drawn: Tensor) -> Tensor:
        """Return the drawn preferences (B, M), between those rewards that each row has gradients of."""
        masked = drawn * rollout.tensors["found"][rows]
        chosen = torch.where(masked.sum(1, keepdim=True) > 0, masked, rollout.tensors["weights"][rows])
        return (chosen / chosen.sum(1, keepdim=True)).to(rollout.problem.device)


def _alignment(moved: Tensor, shift: Tensor) -> Tensor:
    """Return how much of each target the model has learned, (B,): 0 at the start of a round, and 1 at the target."""
    moved, shift = moved.flatten(1), shift.flatten(1)
    return (moved * shift).sum(1) / shift.square().sum(1).clamp(min=1e-12)
