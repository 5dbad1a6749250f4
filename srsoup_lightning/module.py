"""The LightningModule: a model, rewards, and a sampler or an objective, for preferences between the rewards."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from lightning.pytorch.callbacks import Callback
from torch import nn

from rewards import Reward
from rewards.checks import require_no_url
from srsoup_lightning.costs.limits import LimitError, Limits
from srsoup_lightning.costs.meter import Meter
from srsoup_lightning.data import SoupRequest, about_request
from srsoup_lightning.diffusion.adapters import Adapters
from srsoup_lightning.diffusion.backbone import Backbone
from srsoup_lightning.diffusion.loading.fingerprint import loaded_model
from srsoup_lightning.diffusion.loading.loras import start_from_lora
from srsoup_lightning.diffusion.loading.options import Loading
from srsoup_lightning.diffusion.loading.pipeline import load_backbone
from srsoup_lightning.diffusion.precision import require_precision
from srsoup_lightning.diffusion.process import BatchSize, Process, fastest_batch
from srsoup_lightning.finetune.hooks import FinetuningHooks, is_fitting, require_stage
from srsoup_lightning.finetune.rehearsal import RoundLimits
from srsoup_lightning.finetune.training import Training
from srsoup_lightning.oracle import OraclePolicy, RewardOracle
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import Problem
from srsoup_lightning.runs.termination import Termination
from srsoup_lightning.samplers.base import Sampler
from srsoup_lightning.samplers.rehearsal import Forecast
from srsoup_lightning.samplers.result import Moment, OnStep, Soup

logger = logging.getLogger(__name__)


class SRSoupModule(FinetuningHooks):
    """Makes one soup for each batch of ``trainer.predict``, and tunes a LoRA in ``trainer.fit``.

    Args:
        pipeline: Name of a builtin checkpoint, local folder or hub id of a diffusers pipeline; or a Backbone. It is
            loaded when the Trainer sets the module up.
        rewards: Name to reward. The names must be those of the preferences.
        sampler: Method. In a fit, it makes the pictures of the validation.
        preferences: Preferences to make pictures for. Their order is that of every result. A fit has one.
        negative_prompt: Prompt that classifier-free guidance leads away from.
        loading: Options of loading and running the pipeline: precision, size, LoRAs, memory, speed.
        oracle: Policy for failing rewards, cached answers and budgets of paid rewards.
        soup_limits: Limits on the costs of each soup.
        run_limits: Limits on the costs of all soups together. Soups of other processes and of earlier parts of the run
            count too where a SampleWriter keeps the count in the run directory. Without one, all soups of this module
            in its process count. When a limit or a budget is reached, the run ends with the soups that are finished.
        training: Objective and options of a fit. None is for ``trainer.predict``.
        adapters: LoRAs by which the model depends on the preference, under any sampler. None has no such LoRAs.

    Attributes:
        base, loading: Name of the pipeline, or class of a Backbone; options of loading it.
        loras: Weight of each LoRA that the pipeline is loaded with, by folder, file or hub id.
        backbone, oracle, account: The model, once it is loaded, the rewards as samplers ask them, limits and budgets.
        max_batch: Size of the batches, once the Trainer has set the module up.
        max_batch_callbacks: Called with the size that "auto" comes to, in the first process, before others have it.
        step_callbacks: Callbacks after every denoising step. Lightning callbacks add theirs.

    Raises:
        ValueError: Rewards and preferences, or rewards and `oracle`, name different things; `pipeline` is a URL;
            `loading` is given for a Backbone, which is loaded already; or a fit has `base_steps`.
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
        training: Training | None = None,
        adapters: Adapters | None = None,
    ) -> None:
        super().__init__()
        ordered = preferences.in_order(rewards)
        self.rewards, self.reward_networks = ordered, nn.ModuleList(ordered.values())  # a dict takes any name
        self.oracle = RewardOracle(ordered, oracle, run_limits.named("run"))
        self.account, self.soup_limits = self.oracle.account, soup_limits
        self.sampler, self.preferences, self.negative_prompt = sampler, preferences, negative_prompt
        self.tuning, self.adapters, self._adapted = training, adapters, False
        self.forecast = Forecast(sampler, preferences)
        self.max_batch = None if sampler.max_batch == "auto" else sampler.max_batch
        self.max_batch_callbacks: list[Callable[[int], None]] = []
        self._batch: BatchSize | None = None
        self.step_callbacks: list[OnStep] = []
        self.loading, self.strict_loading = loading, False  # checkpoints lack frozen weights
        self.backbone: Backbone | None = None
        if isinstance(pipeline, Backbone):
            if loading != Loading() or adapters is not None:
                raise ValueError("this Backbone is loaded already: leave out `loading` and `adapters`")
            self.backbone, self.base, self.describe_model = pipeline, type(pipeline).__name__, pipeline.description
        else:
            require_no_url("pipeline", pipeline)
            self.base, self._load = pipeline, partial(load_backbone, pipeline, loading, adapters)
            self.describe_model = partial(loaded_model, pipeline, loading, adapters)
        self.loras = dict((self.backbone or loading).loras)  # a copy, which a spawned process can receive
        self.loras |= dict.fromkeys(adapters.sources if adapters else (), 1.0)
        if training is not None and (steps := (self.backbone or loading).base_steps):
            raise ValueError(f"base_steps is {steps}, and a fit can't train these steps: leave it out")

    @property
    def limited(self) -> bool:
        """Whether any limit or budget is set."""
        return bool(self.account.limits) or self.soup_limits != Limits()

    def configure_callbacks(self) -> list[Callback]:
        """Return what ends the processes of a run after SIGTERM, where the Trainer does not have it yet."""
        return [] if Termination in map(type, getattr(self.trainer, "callbacks", ())) else [Termination()]

    def setup(self, stage: str) -> None:
        """Check the rewards, then load the pipeline once, and choose the size of its batches or add the adapter.

        Raises:
            RewardError: A reward can't be asked.
            NoGradientError: The method needs gradients that a reward does not have.
            ValueError: Objective and stage do not fit together, or the Trainer has a precision for all tensors.
        """
        if stage == "predict" or type(self).training_step is FinetuningHooks.training_step:
            require_stage(self.tuning, self.preferences, stage)
        require_precision(getattr(self._trainer, "precision", "32-true"))
        self.check()
        self.configure_model()
        if self.tuning is not None and is_fitting(self):
            problem_of = partial(self.problem, process=self.tuning.objective)
            limits = RoundLimits(self.account, self.tuning, self.preferences, problem_of) if self.limited else None
            self.begin_finetuning(self.tuning, self._loaded(), problem_of, self.preferences, limits)
        else:
            self._choose_batch(self._loaded())
        self.account.begin()
        self.forecast = Forecast(self.sampler, self.preferences)

    def check(self) -> None:
        """Check that rewards can be asked, have the gradients that the methods need, and are those of the options.

        Raises:
            RewardError, NoGradientError, ValueError: One can't be asked, has no gradient, or is not named rightly.
        """
        self.sampler.check(self.preferences)
        if self.adapters is not None:
            self.adapters.check(self.preferences.rewards, self.preferences.weights, self.sampler.eta)
        self.oracle.check()
        if self.tuning is not None and self.tuning.objective.needs_gradient:
            self.oracle.require_gradients(type(self.tuning.objective).__name__, self.preferences.weighted)
        if self.sampler.needs_gradient:
            self.oracle.require_gradients(type(self.sampler).__name__, self.preferences.weighted)

    def configure_model(self) -> None:
        """Load the pipeline, and add the adapter in the first fit. A callback may call it before :meth:`setup`."""
        backbone = self._loaded()
        if self.tuning is None or self._adapted or not is_fitting(self):
            return
        lora, conditioning, self._adapted = self.tuning.lora, self.tuning.conditioning, True
        if lora.start is None:
            backbone.add_adapter(lora.config(), seed=lora.seed)
        else:
            start_from_lora(backbone, lora.start)
        if conditioning is not None:
            backbone.condition(self.preferences.weighted, width=conditioning.width, seed=lora.seed)

    def predict_step(self, batch: SoupRequest, batch_idx: int = 0) -> Soup:
        """Make the soup of one prompt and seed.

        Raises:
            TypeError: The batch is no request.
            RewardError: A reward failed. The message says which, when, and for which prompt and seed.
            LimitError: A limit or a budget leaves no room for this soup. In a Trainer, the run ends without it.
        """
        if not isinstance(batch, SoupRequest):
            raise TypeError(f"a batch is {batch!r}: give prompts as trainer.predict(module, PromptDataModule([...]))")
        try:
            problem = self.problem(batch.prompt)
            with self._limited(problem):
                soup = self.sampler.run(problem, self.preferences, batch.prompt, batch.seed, self._on_step)
        except LimitError as reached:
            if self.account.stop(str(reached)):
                logger.warning("%s: the run ends with the soups that are finished", reached)
            if self._trainer is None:
                raise
            # The Trainer takes it for the end of the data. This process waits for the others where it always does.
            raise StopIteration from reached
        except Exception as error:
            raise about_request(error, batch)  # noqa: B904 - it is the same error, or it has it as its cause
        self.forecast.learn(soup.ledger)
        return soup

    def validation_step(self, batch: SoupRequest, batch_idx: int = 0) -> Soup:  # type: ignore[override]
        """Make the soup of a prompt and seed of the validation, and log its rewards."""
        soup = self.sampler.run(self.problem(batch.prompt), self.preferences, batch.prompt, batch.seed, self._on_step)
        means = dict(zip(soup.reward_names, soup.rewards.mean(0), strict=True))
        self.log_dict({f"validation/{name}": mean for name, mean in means.items()}, batch_size=1, sync_dist=True)
        return soup

    def problem(self, prompt: str, meter: Meter | None = None, process: Process | None = None) -> Problem:
        """Return one prompt's denoising process and rewards. It loads the pipeline.

        Args:
            prompt: Prompt.
            meter: Meter of the costs. None counts in a new ledger.
            process: Settings of the denoising process. None takes those of the sampler.
        """
        backbone, settings = self._loaded(), process or self.sampler
        self._batch = self._batch or BatchSize.of(self.max_batch or settings.max_batch)
        denoiser = backbone.bind(
            prompt,
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            eta=settings.eta,
            negative_prompt=self.negative_prompt,
        )
        return Problem(denoiser, self.oracle, self._batch, prompt, meter)

    def _choose_batch(self, backbone: Backbone) -> None:
        """Resolve a max_batch of "auto" in the first process, for all of them."""
        if self.max_batch is None and self._trainer is not None:
            if self.trainer.is_global_zero:
                backbone.to(self.trainer.strategy.root_device)
                with self.trainer.precision_plugin.forward_context():
                    problem = self.problem("").serving(self.preferences.weights.mean(0))
                self.max_batch = fastest_batch(lambda x: problem.denoise(x, 0), problem.shape, problem.device)
                for on_max_batch in self.max_batch_callbacks:
                    on_max_batch(self.max_batch)
            self.max_batch = self.trainer.strategy.broadcast(self.max_batch)
            self._batch = None

    def _limited(self, problem: Problem) -> AbstractContextManager[None]:
        """Keep a soup within the limits, if there are any."""
        if not self.limited:
            return nullcontext()
        expected, images = self.forecast.expected(problem.denoiser)
        return problem.meter.limited(self.soup_limits, self.account, expected, images)

    def _on_step(self, moment: Moment) -> None:
        for on_step in self.step_callbacks:
            on_step(moment)

    def _loaded(self) -> Backbone:
        self.backbone = self.backbone or self._load()
        return self.backbone
