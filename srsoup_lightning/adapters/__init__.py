"""Adapters that serve every preference: how the prediction at a latent depends on the preference it is made for."""

from srsoup_lightning.adapters.base import Adapters, BoundAdapters, Evaluations, InputKind
from srsoup_lightning.adapters.policies import MORL, DiffusionBlend, PreferenceConditioned, RewardedSoup

__all__ = [
    "MORL",
    "Adapters",
    "BoundAdapters",
    "DiffusionBlend",
    "Evaluations",
    "InputKind",
    "PreferenceConditioned",
    "RewardedSoup",
]
