"""Steer text-to-image diffusion models by black-box rewards while they sample, for every preference at once."""

from srsoup_lightning.bounds import Bounds
from srsoup_lightning.data import PromptDataModule
from srsoup_lightning.diffusion.loading import Loading
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.samplers.judging import Judging
from srsoup_lightning.version import __version__

__all__ = ["Bounds", "Judging", "Loading", "Preferences", "PromptDataModule", "SRSoupModule", "__version__"]
