"""The LightningModule: a model, its judges, a method and the preferences to serve."""

from __future__ import annotations

import signal
import sys
from functools import partial

import lightning as L
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn

from rewards import Reward
from srsoup_lightning.data import SoupRequest
from srsoup_lightning.diffusion.backbone import Backbone
from srsoup_lightning.diffusion.loading import Loading, load_backbone
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.samplers.base import Listener, Moment, Sampler, Soup
from srsoup_lightning.samplers.judges import Judges
from srsoup_lightning.samplers.judging import Judging, RewardError
from srsoup_lightning.samplers.problem import Problem


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
        judging: What happens when a reward fails, and whose answers are remembered.

    Raises:
        ValueError: Rewards and preferences or `judging` that name different things, or `loading` for a Backbone, which
            is there.
    """

    def __init__(
        self,
        pipeline: str | Backbone,
        rewards: dict[str, Reward],
        sampler: Sampler,
        preferences: Preferences,
        negative_prompt: str = "",
        loading: Loading = Loading(),
        judging: Judging = Judging(),
    ) -> None:
        super().__init__()
        if set(rewards) != set(preferences.rewards):
            raise ValueError(
                f"the rewards are {sorted(rewards)} and the preferences weigh {sorted(preferences.rewards)}: "
                "name the same on both sides"
            )
        self.rewards = nn.ModuleDict({name: rewards[name] for name in preferences.rewards})
        self.judges = Judges(
            {name: partial(_score, rewards[name]) for name in preferences.rewards},
            on_cpu=[name for name in preferences.rewards if rewards[name].on_cpu],
            judging=judging,
        )
        self.sampler, self.preferences, self.negative_prompt = sampler, preferences, negative_prompt
        self._most = sys.maxsize  # that memory is known to hold
        self.backbone: Backbone | None = None
        if isinstance(pipeline, Backbone):
            if loading != Loading():
                raise ValueError("this Backbone is loaded already: leave out `loading`")
            self.backbone = pipeline
        else:
            self._load = partial(load_backbone, pipeline, loading)
        self.listeners: list[Listener] = []
        """Callables told after every denoising step; callbacks add themselves."""

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

    def predict_step(self, batch: SoupRequest, batch_idx: int = 0) -> Soup:
        """Make the soup of one prompt and seed.

        Raises:
            RewardError: A reward failed; the message says which, when, and on which prompt and seed.
        """
        try:
            problem = self.problem(batch.prompt)
            soup = self.sampler.run(problem, self.preferences, batch.prompt, batch.seed, self._tell)
            if problem.max_batch < self.sampler.max_batch:
                self._most = problem.max_batch
            return soup
        except StopIteration as error:  # the Trainer would take it for the end of the data and say nothing
            raise RuntimeError(f"{error!r} while making the soup of {batch}") from error
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

    def _tell(self, moment: Moment) -> None:
        if self._trainer is not None and self.trainer.received_sigterm:
            raise SIGTERMException(128 + signal.SIGTERM)  # the exit code, in a user's own script too
        for listener in self.listeners:
            listener(moment)


def _score(reward: Reward, images: Tensor, prompts: list[str]) -> Tensor:
    with torch.no_grad():
        return reward.score(images, prompts)
