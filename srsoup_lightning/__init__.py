"""Steer text-to-image diffusion models by black-box rewards while they sample, for every preference at once."""

from srsoup_lightning.costs.limits import Limits
from srsoup_lightning.data import PromptDataModule
from srsoup_lightning.diffusion.loading.options import Loading
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.oracle.policy import OraclePolicy
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.version import __version__

__all__ = ["Limits", "Loading", "OraclePolicy", "Preferences", "PromptDataModule", "SRSoupModule", "__version__"]
