"""The methods, one file each, behind one interface."""

from srsoup_lightning.samplers.base import Listener, Moment, Observation, Sampler, Soup
from srsoup_lightning.samplers.base_model import BaseModel
from srsoup_lightning.samplers.best_of_n import BestOfN
from srsoup_lightning.samplers.judges import Judges
from srsoup_lightning.samplers.judging import Judging, RewardError
from srsoup_lightning.samplers.problem import Problem
from srsoup_lightning.samplers.soup import SRSoup, WeightedSum
from srsoup_lightning.search.gates import AdaptiveAnchors, Gated
from srsoup_lightning.search.pooling import Auto, Pooled
from srsoup_lightning.search.selection import Selection
from srsoup_lightning.search.shaping import Shaping
from srsoup_lightning.search.sharing import FixedSoup, Never, Sharing, Standing
from srsoup_lightning.search.surrogate import Surrogate

__all__ = [
    "AdaptiveAnchors",
    "Auto",
    "BaseModel",
    "BestOfN",
    "FixedSoup",
    "Gated",
    "Judges",
    "Judging",
    "Listener",
    "Moment",
    "Never",
    "Observation",
    "Pooled",
    "Problem",
    "RewardError",
    "SRSoup",
    "Sampler",
    "Selection",
    "Shaping",
    "Sharing",
    "Soup",
    "Standing",
    "Surrogate",
    "WeightedSum",
]
