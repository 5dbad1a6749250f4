"""The methods, one file each, behind one interface."""

from srsoup_lightning.oracle.oracle import RewardOracle
from srsoup_lightning.oracle.policy import OraclePolicy, RewardError
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.base import Sampler
from srsoup_lightning.samplers.best_of_n import BestOfN
from srsoup_lightning.samplers.result import Moment, Observation, OnStep, Soup
from srsoup_lightning.samplers.soup import SRSoup, WeightedSum
from srsoup_lightning.samplers.unsteered import BaseModel
from srsoup_lightning.search.gates import AdaptiveAnchors, Gated
from srsoup_lightning.search.pooling import Auto, Pooled
from srsoup_lightning.search.selection import Selection
from srsoup_lightning.search.shaping import Shaping
from srsoup_lightning.search.sharing import FixedSoup, Never, Sharing, StepState
from srsoup_lightning.search.surrogate import Surrogate

__all__ = [
    "AdaptiveAnchors",
    "Auto",
    "BaseModel",
    "BestOfN",
    "FixedSoup",
    "Gated",
    "Moment",
    "Never",
    "Observation",
    "OnStep",
    "OraclePolicy",
    "Pooled",
    "Problem",
    "RewardError",
    "RewardOracle",
    "SRSoup",
    "Sampler",
    "Selection",
    "Shaping",
    "Sharing",
    "Soup",
    "StepState",
    "Surrogate",
    "WeightedSum",
]
