"""The LightningModule: a model, rewards, and a sampler or an objective, for preferences between the rewards."""

from __future__ import annotations

import logging
from functools import partial

import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from rewards.checks import require_instance
from rewards.function_reward import Rewards, as_rewards
from srsoup_lightning.adapters import Adapters
from srsoup_lightning.costs.limits import LimitError, Limits
from srsoup_lightning.costs.meter import Meter
from srsoup_lightning.data import SoupRequest, about_request
from srsoup_lightning.diffusion.backbone import Backbone
from srsoup_lightning.diffusion.loading.given import LoadedPipeline
from srsoup_lightning.diffusion.loading.loras import start_from_lora
from srsoup_lightning.diffusion.loading.options import Loading
from srsoup_lightning.diffusion.loading.source import model_source
from srsoup_lightning.diffusion.precision import require_precision
from srsoup_lightning.diffusion.process import BatchSize, Process
from srsoup_lightning.finetune.hooks import FinetuningHooks, is_fitting, require_stage
from srsoup_lightning.finetune.rehearsal import RoundLimits
from srsoup_lightning.finetune.training import Training
from srsoup_lightning.oracle import OraclePolicy, RewardOracle
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import Problem
from srsoup_lightning.runs.termination import Termination
from srsoup_lightning.samplers.base import Sampler
from srsoup_lightning.samplers.hooks import SamplingHooks
from srsoup_lightning.samplers.rehearsal import Forecast
from srsoup_lightning.samplers.result import Soup

logger = logging.getLogger(__name__)


class SRSoupModule(SamplingHooks, FinetuningHooks):
    """Makes one soup by ``sample`` or for each batch of ``trainer.predict``, and tunes a LoRA in ``trainer.fit``.

    Args:
        pipeline: Name of a builtin checkpoint, local folder or hub id of a diffusers pipeline, which is loaded when it
            is needed; a pipeline that is loaded, with the LoRAs that are active in it; or a Backbone. The networks of
            a loaded one are frozen, and the module stays on its device.
        rewards: Name to reward, or to a function of images and prompts. The names must be those of the
            preferences.
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
        base: Name of the pipeline; of one that tells none, and of a Backbone, its class.
        loading: Options of loading the pipeline.
        loras: Weight of each LoRA that the pipeline has, by folder, file or hub id; by name where it was given loaded.
        backbone, oracle, account: The model, once it is loaded, the rewards as samplers ask them, limits and budgets.

    Raises:
        TypeError: An argument is another object.
        ValueError: Rewards and preferences, or rewards and `oracle`, name different things; `pipeline` is a URL, or of
            a class without a family; `loading` does not fit a pipeline that is loaded already; or a fit has
            `base_steps`, or a pipeline with an active LoRA.
    """

    def __init__(
        self,
        pipeline: str | Backbone | LoadedPipeline,
        rewards: Rewards,
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
        for name, given, kind in (
            *(("sampler", sampler, Sampler), ("preferences", preferences, Preferences)),
            *(("loading", loading, Loading), ("oracle", oracle, OraclePolicy)),
            *(("soup_limits", soup_limits, Limits), ("run_limits", run_limits, Limits)),
        ):
            require_instance(name, given, kind)
        require_instance("training", training, Training, optional=True)
        require_instance("adapters", adapters, Adapters, optional=True)
        ordered = preferences.in_order(as_rewards(rewards))
        self.rewards, self.reward_networks = ordered, nn.ModuleList(ordered.values())  # a dict takes any name
        self.oracle = RewardOracle(ordered, oracle, run_limits.named("run"))
        self.begin_sampling(sampler, preferences, self.oracle, soup_limits)
        self.negative_prompt, self.adapters, self.tuning, self._adapted = negative_prompt, adapters, training, False
        self.loading, self.strict_loading = loading, False  # checkpoints lack frozen weights
        source = model_source(pipeline, loading, adapters)
        self.base, self.describe_model, self._load = source.name, source.describe, source.load
        self.loras = dict(source.loras)  # a copy, which a spawned process can receive
        if training is not None:
            source.require_trainable(adapters)
        self.backbone: Backbone | None = source.given
        if isinstance(device := getattr(source.given, "device", None), torch.device):
            self.to(device)
        self._home = self.device

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
        self._home = self.device  # the Trainer moves the module afterwards
        self.prepare()
        if self.tuning is not None and is_fitting(self):
            problem_of = partial(self.problem, process=self.tuning.objective)
            limits = RoundLimits(self.account, self.tuning, self.preferences, problem_of) if self.limited else None
            self.begin_finetuning(self.tuning, self._loaded(), problem_of, self.preferences, limits)
        else:
            self._choose_batch_of_all()
        self.account.begin()
        self.forecast = Forecast(self.sampler, self.preferences, self.oracle.differentiable)

    def teardown(self, stage: str) -> None:
        """Bring the module back to the device where it was before the Trainer, which leaves it on the CPU."""
        self.to(self._home)

    def prepare(self) -> None:
        """See :meth:`SamplingHooks.prepare`."""
        self.check()
        self.configure_model()

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
        missing = self.sampler.lacking(self.preferences, self.oracle.differentiable)
        self.oracle.require_gradients(type(self.sampler).__name__, missing)

    def configure_model(self) -> None:
        """Load the pipeline, and add the adapter in the first fit. A callback may call it before :meth:`setup`."""
        backbone = self._loaded()
        if backbone.adapters is not None:  # the files of some tell only now which rewards they know
            backbone.adapters.policy.check(self.preferences.rewards, self.preferences.weights, self.sampler.eta)
        if self.tuning is None or self._adapted or not is_fitting(self):
            return
        lora, conditioning, self._adapted = self.tuning.lora, self.tuning.conditioning, True
        if lora.start is None:
            backbone.add_adapter(lora.config(), seed=lora.seed)
        else:
            start_from_lora(backbone, lora.start)
        if conditioning is not None:
            kind, width = conditioning.kind, conditioning.width
            backbone.condition(self.preferences.weighted, kind=kind, width=width, seed=lora.seed)

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
            with self.within_limits(problem):
                soup = self.sampler.run(problem, self.preferences, batch.prompt, batch.seed, self.tell_step)
        except LimitError as reached:
            if self._trainer is None or not self.trainer.predicting:
                raise
            if self.account.stop(str(reached)):
                logger.warning("%s: the run ends with the soups that are finished", reached)
            # The Trainer takes it for the end of the data. This process waits for the others where it always does.
            raise StopIteration from reached
        except Exception as error:
            raise about_request(error, batch)  # noqa: B904 - it is the same error, or it has it as its cause
        self.forecast.learn(soup.ledger)
        return soup

    def validation_step(self, batch: SoupRequest, batch_idx: int = 0) -> Soup:  # type: ignore[override]
        """Make the soup of a prompt and seed of the validation, and log its rewards."""
        soup = self.sampler.run(self.problem(batch.prompt), self.preferences, batch.prompt, batch.seed, self.tell_step)
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
        self.batch = self.batch or BatchSize.of(self.max_batch or settings.max_batch)
        denoiser = backbone.bind(
            prompt,
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            eta=settings.eta,
            negative_prompt=self.negative_prompt,
        )
        return Problem(denoiser, self.oracle, self.batch, prompt, meter)

    def _choose_batch_of_all(self) -> None:
        """Resolve a max_batch of "auto" in the first process, for all of them."""
        if self.max_batch is None and self._trainer is not None:
            if self.trainer.is_global_zero:
                self._loaded().to(self.trainer.strategy.root_device)
                with self.trainer.precision_plugin.forward_context():
                    self.choose_batch()
            self.max_batch = self.trainer.strategy.broadcast(self.max_batch)
            self.batch = None

    def _loaded(self) -> Backbone:
        if self.backbone is None:
            self.backbone = self._load().to(self.device)
        return self.backbone
