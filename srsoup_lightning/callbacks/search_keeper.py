"""Searches of a run are kept, as data for a fine-tuning that asks no rewards."""

from __future__ import annotations

import logging

import lightning as L
import torch

from srsoup_lightning.callbacks.base import SoupCallback
from srsoup_lightning.data import SoupRequest
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.searches import KeptSearch, write_search
from srsoup_lightning.samplers.result import Moment, Observation, OnStep, Soup

logger = logging.getLogger(__name__)
PROCESS = ("num_inference_steps", "guidance_scale", "eta")


class SearchKeeper(SoupCallback):
    """Writes the states and the search gradients of each soup to ``searches/`` of the run directory.

    ``SoupDistillation`` trains on them by ``KeptSearches``. A soup takes ``4 P K (M + 2)`` bytes for each number of a
    latent, with P preferences, K searched steps and M rewards: 1.9 MB for six preferences and two rewards of
    tiny-animals, and 79 MB for those of Stable Diffusion 1.5 in 50 steps.

    Args:
        root: The run directory. None takes the Trainer's ``default_root_dir``.
    """

    def __init__(self, root: str | None = None) -> None:
        self.root = root
        self._found: list[tuple[Observation, torch.Tensor]] = []
        self._rewards: tuple[str, ...] = ()
        self._process: dict[str, float] = {}

    def on_run_start(self, trainer: L.Trainer, module: SRSoupModule) -> OnStep:
        """See :meth:`SoupCallback.on_run_start`."""
        self._rewards = tuple(module.preferences.weighted)
        self._process = {name: getattr(module.sampler, name) for name in PROCESS}
        return self._keep

    def on_soup_start(self, request: SoupRequest) -> None:
        """See :meth:`SoupCallback.on_soup_start`."""
        self._found = []

    def on_soup_end(self, trainer: L.Trainer, soup: Soup, index: int) -> None:
        """See :meth:`SoupCallback.on_soup_end`."""
        if not self._found:
            logger.warning("%r has no search gradients to keep: take a sampler such as SRSoup", soup.prompt)
            return
        observations, gradients = zip(*self._found, strict=True)
        states = [each.state for each in observations]
        run = RunDirectory(self.root or trainer.default_root_dir)
        search = KeptSearch(
            prompt=soup.prompt,
            seed=soup.seed,
            rewards=self._rewards,
            steps=tuple(state.step for state in states),
            process=self._process,
            sigmas=tuple(state.sigma for state in states),
            states=torch.stack([each.latents for each in observations], 1),
            means=torch.stack([state.means for state in states], 1),
            gradients=torch.stack(gradients, 1),
            weights=states[0].preferences,
        )
        write_search(run, search)

    def _keep(self, moment: Moment) -> None:
        if isinstance(moment.observation, Observation):
            found = moment.observation
            self._found.append((found, found.gradients().cpu()))
