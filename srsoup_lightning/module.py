"""The LightningModule: a model, its judges, a method and the preferences to serve."""

from __future__ import annotations

import logging
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import cast

import lightning as L
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn

from rewards import Reward
from rewards.checks import require_no_url
from srsoup_lightning.costs.account import LimitError, budget_of
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.costs.limits import Limits, metered
from srsoup_lightning.data import SoupRequest
from srsoup_lightning.diffusion.backbone import Backbone
from srsoup_lightning.diffusion.loading.options import Loading
from srsoup_lightning.diffusion.loading.pipeline import load_backbone
from srsoup_lightning.oracle.oracle import RewardOracle
from srsoup_lightning.oracle.policy import OraclePolicy, RewardError
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.base import Sampler
from srsoup_lightning.samplers.rehearsal import rehearse
from srsoup_lightning.samplers.result import Moment, OnStep, Soup

logger = logging.getLogger(__name__)


class SRSoupModule(L.LightningModule):
    """Makes one soup a batch in ``trainer.predict``.

    Args:
        pipeline: The name of a shipped checkpoint, a local folder or a hub id of a diffusers pipeline; or a Backbone.
            It is loaded when the Trainer sets the module up.
        rewards: Name to reward; the names must be those of the preferences.
        sampler: The method.
        preferences: The points to make pictures for; their order is that of every result.
        negative_prompt: What classifier-free guidance leads away from.
        loading: How the pipeline is loaded and run: precision, size, LoRAs, memory, speed.
        oracle: What happens when a reward fails, whose answers are remembered, and how many a paid one may give.
        soup_limits: How much each soup may cost.
        run_limits: How much all soups may cost together, those of other processes and of earlier parts of the run too
            where a SampleWriter keeps count in the run directory; without one, all that this module makes in its
            process. Where a bound or a budget is reached, the run ends with the soups that are finished.

    Raises:
        ValueError: Rewards and preferences or `oracle` that name different things, a URL as `pipeline`, or `loading`
            for a Backbone, which is there.
    """

    def __init__(
        self,
        pipeline: str | Backbone,
        rewards: dict[str, Reward],
        sampler: Sampler,
        preferences: Preferences,
        negative_prompt: str = "",
        loading: Loading = Loading(),
        oracle: OraclePolicy = OraclePolicy(),
        soup_limits: Limits = Limits(),
        run_limits: Limits = Limits(),
    ) -> None:
        super().__init__()
        if set(rewards) != set(preferences.rewards):
            raise ValueError(
                f"the rewards are {sorted(rewards)} and the preferences weigh {sorted(preferences.rewards)}: "
                "name the same on both sides"
            )
        self.rewards = nn.ModuleDict({name: rewards[name] for name in preferences.rewards})
        self.judges = RewardOracle(
            {name: partial(self._score, name) for name in preferences.rewards},
            on_cpu=[name for name in preferences.rewards if rewards[name].on_cpu],
            policy=oracle,
            bounds=run_limits.named("run"),
        )
        self.soup_limits, self.account = soup_limits, self.judges.account
        self.sampler, self.preferences, self.negative_prompt = sampler, preferences, negative_prompt
        self._most = sys.maxsize  # that memory is known to hold
        self._rehearsed: tuple[Ledger, dict[str, float]] | None = None
        self._durations: list[float] = []
        self.backbone: Backbone | None = None
        if isinstance(pipeline, Backbone):
            if loading != Loading():
                raise ValueError("this Backbone is loaded already: leave out `loading`")
            self.backbone = pipeline
        else:
            require_no_url("pipeline", pipeline)
            self._load = partial(load_backbone, pipeline, loading)
        self.step_callbacks: list[OnStep] = []
        """Callables told after every denoising step; callbacks add themselves."""

    @property
    def bounded(self) -> bool:
        """Whether anything bounds what is spent."""
        return bool(self.account.bounds) or self.soup_limits != Limits()

    def setup(self, stage: str) -> None:
        """Check the rewards, then load the pipeline, once.

        Raises:
            RewardError: A reward can't be asked.
        """
        for name, reward in self.rewards.items():
            try:
                reward.check()  # type: ignore[operator]
            except Exception as error:
                raise RewardError(f"reward {name!r} can't be asked: {error}") from error
        if self.backbone is None:
            self.backbone = self._load()
        self.account.begin()
        self._rehearsed = None

    def predict_step(self, batch: SoupRequest, batch_idx: int = 0) -> Soup:
        """Make the soup of one prompt and seed.

        Raises:
            RewardError: A reward failed; the message says which, when, and on which prompt and seed.
            LimitError: A bound or a budget leaves no room for this soup; in a Trainer the run ends without it.
        """
        try:
            problem = self.problem(batch.prompt)
            with self._metered(problem):
                soup = self.sampler.run(problem, self.preferences, batch.prompt, batch.seed, self._tell)
            self._durations.append(soup.ledger.seconds)
            if problem.max_batch < self.sampler.max_batch:
                self._most = problem.max_batch
            return soup
        except StopIteration as error:  # the Trainer would take it for the end of the data and say nothing
            raise RuntimeError(f"{error!r} while making the soup of {batch}") from error
        except LimitError as reached:
            if self.account.stop(str(reached)):
                logger.warning("%s: the run ends with the soups that are finished", reached)
            if self._trainer is None:
                raise
            # The Trainer takes it for the end of the data: this process waits for the others where it would anyway.
            raise StopIteration from reached
        except Exception as error:
            error.add_note(f"while making the soup of prompt {batch.prompt!r}, seed {batch.seed}")
            raise

    def problem(self, prompt: str) -> Problem:
        """One prompt's denoising process and rewards, as the sampler asks for them; loads the pipeline if need be."""
        if self.backbone is None:
            self.backbone = self._load()
        sampler = self.sampler
        denoiser = self.backbone.bind(
            prompt,
            num_inference_steps=sampler.num_inference_steps,
            guidance_scale=sampler.guidance_scale,
            eta=sampler.eta,
            negative_prompt=self.negative_prompt,
        )
        return Problem(denoiser, self.judges, min(sampler.max_batch, self._most), prompt)

    def _metered(self, problem: Problem) -> AbstractContextManager[None]:
        """What keeps a soup within the bounds, if there are any."""
        if not self.bounded:
            return nullcontext()
        if self._rehearsed is None:
            self._rehearsed = rehearse(self.sampler, self.preferences, model=problem.denoiser)
        (cost, images), durations = self._rehearsed, self._durations
        expected = replace(cost, seconds=fmean(durations) if durations else 0.0)
        return metered(problem.ledger, self.soup_limits, self.account, expected, images)

    def _tell(self, moment: Moment) -> None:
        if self._trainer is not None and self.trainer.received_sigterm:
            raise SIGTERMException(128 + signal.SIGTERM)  # the exit code, in a user's own script too
        for on_step in self.step_callbacks:
            on_step(moment)

    def _score(self, name: str, images: Tensor, prompts: list[str]) -> Tensor:
        reward = cast("Reward", self.rewards[name])
        reward.before_repeat = partial(self.account.pay, budget_of(name))  # here, for modules may share a reward
        with torch.no_grad():
            return reward.score(images, prompts)
