"""Rehearsal of a round: the objective itself runs on a stand-in for the model, so that costs are known beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor

from srsoup_lightning.adapters import BoundAdapters, PreferenceConditioned
from srsoup_lightning.costs.account import Account
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.costs.limits import Limits, budget_of
from srsoup_lightning.costs.meter import Meter
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.process import BatchSize
from srsoup_lightning.finetune.finetuning import Finetuning
from srsoup_lightning.finetune.policy import Policy
from srsoup_lightning.finetune.training import Training
from srsoup_lightning.oracle import RewardOracle
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.stand_in import cosine_schedule, projections, stand_in


class StandIn(Policy):
    """Policy without weights."""

    def __init__(self) -> None:
        """There is no backbone."""

    def reference(self) -> AbstractContextManager[None]:
        """See :meth:`Policy.reference`."""
        return nullcontext()

    def weights(self) -> dict[str, Tensor]:
        """See :meth:`Policy.weights`."""
        return {}

    def aim(self, quantiles: Sequence[Sequence[float]]) -> None:
        """See :meth:`Policy.aim`."""

    def acting(self, weights: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """See :meth:`Policy.acting`."""
        return nullcontext()


def rehearse_round(
    training: Training, preferences: Preferences, *, model: Denoiser | None = None, round_: int = 0
) -> tuple[Ledger, dict[str, float]]:
    """Count the costs of a round of all processes, and the images that it sends to rewards, by the names of budgets.

    Args:
        training: Options.
        preferences: One preference, or several where the preference is an input of the adapter.
        model: Denoising process of a prompt, for its transitions and for the costs of a prediction. None takes a
            schedule whose every step draws noise, and two evaluations for a guided prediction.
        round_: Number of the round, from 0. The first one may cost more than the others.
    """
    process = training.objective
    oracle = RewardOracle(
        projections(preferences.rewards), limits={budget_of(name): math.inf for name in preferences.rewards}
    )
    if model is None:
        kernel = cosine_schedule(process.num_inference_steps, process.eta)
        policy = PreferenceConditioned("", tuple(preferences.weighted))
        bound = BoundAdapters(policy, lambda inputs: nullcontext()) if training.conditioning else None
        denoiser = stand_in(kernel, 2 if process.guidance_scale > 1 else 1, adapters=bound)
    else:
        denoiser = stand_in(model.kernel, model.evaluations, adapters=model.adapters)

    def problem_of(prompt: str, meter: Meter) -> Problem:
        return Problem(denoiser, oracle, BatchSize.of(process.max_batch), prompt, meter)

    finetuning = Finetuning(training, StandIn(), problem_of, preferences.weights.mean(0))
    for number in range(round_ + 1):
        finetuning.collect(["plan"])
        for batch in finetuning.order():
            finetuning.loss(batch)
        costs = finetuning.meter.ledger
        if number < round_:
            finetuning.end_round()
    return costs, oracle.account.spent()


class RoundLimits:
    """Keeps each round of a fit within the limits of the run. A round begins only if its expected costs fit.

    Args:
        account: Account of the run.
        training: Options.
        preferences: One preference, or several where the preference is an input of the adapter.
        problem_of: Returns the denoising process of a prompt.
    """

    def __init__(
        self,
        account: Account,
        training: Training,
        preferences: Preferences,
        problem_of: Callable[[str, Meter], Problem],
    ) -> None:
        self.account, self.training, self.preferences, self.problem_of = account, training, preferences, problem_of
        self._expected: tuple[Ledger, dict[str, float]] | None = None

    def __call__(self, meter: Meter) -> AbstractContextManager[None]:
        """Return the context of a round, whose costs the meter counts.

        Raises:
            LimitError: On entry, the round does not fit; in the context, the next operation does not.
        """
        if self._expected is None:
            model = self.problem_of("", Meter(Ledger())).denoiser
            self._expected = rehearse_round(self.training, self.preferences, model=model)
        return meter.limited(Limits(), self.account, *self._expected)
