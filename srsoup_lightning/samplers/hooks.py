"""Part of a module that makes soups: within limits, in batches of a measured size, with or without a Trainer."""

from __future__ import annotations

import abc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import lightning as L
import torch
from torch import Tensor

from srsoup_lightning.costs.limits import Limits
from srsoup_lightning.data import checked_request
from srsoup_lightning.diffusion.process import BatchSize, fastest_batch
from srsoup_lightning.oracle import RewardOracle
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.base import Sampler
from srsoup_lightning.samplers.rehearsal import Forecast
from srsoup_lightning.samplers.result import Moment, OnStep, Soup


class SamplingHooks(L.LightningModule, abc.ABC):
    """Part of a module that makes soups.

    Attributes:
        sampler: Method.
        preferences: Preferences to make pictures for.
        account: Account of limits and budgets.
        soup_limits: Limits on the costs of each soup.
        forecast: Expected costs of a soup.
        max_batch: Size of the batches, once it is chosen.
        max_batch_callbacks: Called with the size that "auto" comes to, in the first process, before others have it.
        step_callbacks: Callbacks after every denoising step. Lightning callbacks add theirs.
    """

    def begin_sampling(self, sampler: Sampler, preferences: Preferences, oracle: RewardOracle, limits: Limits) -> None:
        """Set the attributes, before anything is loaded."""
        self.sampler, self.preferences, self.account, self.soup_limits = sampler, preferences, oracle.account, limits
        self.forecast = Forecast(sampler, preferences, oracle.differentiable)
        self.max_batch = None if sampler.max_batch == "auto" else sampler.max_batch
        self.max_batch_callbacks: list[Callable[[int], None]] = []
        self.batch: BatchSize | None = None
        self.step_callbacks: list[OnStep] = []

    @abc.abstractmethod
    def problem(self, prompt: str) -> Problem:
        """Return one prompt's denoising process and rewards."""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Check everything that a soup needs, and load the model."""

    @property
    def limited(self) -> bool:
        """Whether any limit or budget is set."""
        return bool(self.account.limits) or self.soup_limits != Limits()

    def sample(self, prompt: str, seed: int = 0, on_step: OnStep | None = None) -> Soup:
        """Make the soup of one prompt and seed, without a Trainer.

        It is the soup that ``trainer.predict`` makes of them on the device of this module, to the last bit. The module
        works on the CPU, or where ``module.to(device)`` puts it, or where a pipeline was that it was given loaded.

        Args:
            prompt: Prompt.
            seed: Seed.
            on_step: Callback after every denoising step, with the number of steps that are done, the number of all, and
                the costs up to now; see :class:`~srsoup_lightning.samplers.Moment`.

        Raises:
            TypeError: The prompt is no text, or the seed no whole number.
            RewardError: A reward can't be asked or failed.
            NoGradientError: The method needs gradients that a reward does not have.
            LimitError: A limit or a budget leaves no room for this soup.
            ValueError: The prompt is empty or no text in UTF-8, or an option of the sampler fits no reward.
        """
        request = checked_request(prompt, seed)
        self.prepare()
        self.account.begin()
        if on_step is not None:
            self.step_callbacks.append(on_step)
        try:
            with torch.inference_mode():
                self.choose_batch()
                return self.predict_step(request)
        finally:
            if on_step is not None:
                self.step_callbacks.remove(on_step)

    def choose_batch(self) -> None:
        """Resolve a max_batch of "auto", by a measurement where the networks are now."""
        if self.max_batch is None:
            problem = self.problem("").serving(self.preferences.weights.mean(0))

            def preview(x: Tensor) -> Tensor:  # a decoder's activations outgrow caches before its network's
                return problem.denoiser.decode_preview(problem.denoise(x, 0).x0)

            self.max_batch = fastest_batch(preview, problem.shape, problem.device)
            self.batch = None
            for on_max_batch in self.max_batch_callbacks:
                on_max_batch(self.max_batch)

    def tell_step(self, moment: Moment) -> None:
        """Call the callbacks of a denoising step."""
        for on_step in self.step_callbacks:
            on_step(moment)

    def within_limits(self, problem: Problem) -> AbstractContextManager[None]:
        """Keep a soup within the limits, if there are any."""
        if not self.limited:
            return nullcontext()
        expected, images = self.forecast.expected(problem.denoiser)
        return problem.meter.limited(self.soup_limits, self.account, expected, images)
