"""A model with known answers and rewards of its pictures, for everything above the samplers."""

from __future__ import annotations

import os

import lightning as L
import pytest
import torch
from torch import Tensor

from rewards import Reward
from srsoup_lightning import Preferences, SRSoupModule
from srsoup_lightning.diffusion.backbone import Backbone
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.samplers import FixedSoup, SRSoup
from tests.mixture import GaussianMixture

# The tensors here are tiny and every core has a worker: one thread each, in the processes that tests start too.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes many seconds; starts first, so that no worker ends alone with it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


class MixtureBackbone(Backbone):
    """The Gaussian mixture behind the interface of a real model; the prompt picks nothing."""

    def __init__(self) -> None:
        super().__init__()
        centres = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        self.mixture = GaussianMixture(centres, 0.3)

    def bind(
        self, prompt: str, *, num_inference_steps: int, guidance_scale: float, eta: float, negative_prompt: str = ""
    ) -> Denoiser:
        return self.mixture.bind(num_inference_steps, eta)


class Channel(Reward):
    """Mean of one colour channel."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel = channel

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return images[:, self.channel].mean((1, 2))


class Broken(Reward):
    """Fails from its n-th call on, in one of three ways."""

    def __init__(self, way: str = "nan", after: int = 0) -> None:
        super().__init__()
        self.way, self.after, self.calls = way, after, 0

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        self.calls += 1
        scores = images.mean((1, 2, 3))
        if self.calls <= self.after:
            return scores
        if self.way == "raise":
            raise StopIteration("out of tokens")
        return scores[:, None] if self.way == "shape" else scores * float("nan")


@pytest.fixture
def module() -> SRSoupModule:
    """A soup of six preferences on the mixture, done in milliseconds."""
    return make_module({"red": Channel(0), "blue": Channel(2)})


@pytest.fixture(scope="session")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of tiny models, in the format of those that builtin configs name."""
    from tests.config_twins import save_twins

    return save_twins(tmp_path_factory.mktemp("twins"))


def make_module(rewards: dict[str, Reward], **options: object) -> SRSoupModule:
    """SRSoupModule over the mixture with a lattice of six preferences between two rewards, and further options."""
    sampler = SRSoup(num_inference_steps=6, candidates=4, sharing=FixedSoup(0, 3))
    return SRSoupModule(MixtureBackbone(), rewards, sampler, Preferences.lattice(list(rewards), 5), **options)


def quiet_trainer(**options: object) -> L.Trainer:
    """A Trainer that shows and keeps nothing of its own, with further options of Lightning's."""
    shown = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    quiet = dict.fromkeys(shown, False)
    return L.Trainer(accelerator="cpu", **quiet | options)
