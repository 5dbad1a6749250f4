"""Samplers, one file for each method, behind one interface."""

from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.base import Sampler
from srsoup_lightning.samplers.beam import DSearch
from srsoup_lightning.samplers.best_of_n import BestOfN
from srsoup_lightning.samplers.das import DAS
from srsoup_lightning.samplers.demon import Demon
from srsoup_lightning.samplers.dno import DNO
from srsoup_lightning.samplers.epsilon_greedy import EpsilonGreedy
from srsoup_lightning.samplers.guidance import DPS, DSG, MPGD, Guidance
from srsoup_lightning.samplers.mira import MIRA
from srsoup_lightning.samplers.mira_dpo import MIRADPO
from srsoup_lightning.samplers.noise_optimisation import NoiseOptimisation
from srsoup_lightning.samplers.noise_search import Archive, NoiseSearch, ZeroOrder
from srsoup_lightning.samplers.particles import BFS, SMC, VASR, FKSteering, Particles
from srsoup_lightning.samplers.paths import SearchOverPaths
from srsoup_lightning.samplers.reno import ReNO
from srsoup_lightning.samplers.result import Measures, Moment, Observation, OnStep, Soup
from srsoup_lightning.samplers.rollover import RBF
from srsoup_lightning.samplers.scalarised import Evaluator, Previewing, Scalarised
from srsoup_lightning.samplers.soup import SRSoup, WeightedSum
from srsoup_lightning.samplers.soup_presets import Auto, Fast
from srsoup_lightning.samplers.spectral import SES
from srsoup_lightning.samplers.tree import DTS
from srsoup_lightning.samplers.trust_region import TRS
from srsoup_lightning.samplers.universal_guidance import UniversalGuidance
from srsoup_lightning.samplers.unsteered import BaseModel
from srsoup_lightning.samplers.value_decoding import SVDD, CoDe
from srsoup_lightning.search.gates import AdaptiveAnchors, Gated
from srsoup_lightning.search.pooling import Pooled
from srsoup_lightning.search.scalarise import Value
from srsoup_lightning.search.selection import Resampling, Selection
from srsoup_lightning.search.shaping import Shaping
from srsoup_lightning.search.sharing import FixedSoup, Never, Sharing, StepState
from srsoup_lightning.search.surrogate import Surrogate

__all__ = [
    "BFS",
    "DAS",
    "DNO",
    "DPS",
    "DSG",
    "DTS",
    "MIRA",
    "MIRADPO",
    "MPGD",
    "RBF",
    "SES",
    "SMC",
    "SVDD",
    "TRS",
    "VASR",
    "AdaptiveAnchors",
    "Archive",
    "Auto",
    "BaseModel",
    "BestOfN",
    "CoDe",
    "DSearch",
    "Demon",
    "EpsilonGreedy",
    "Evaluator",
    "FKSteering",
    "Fast",
    "FixedSoup",
    "Gated",
    "Guidance",
    "Measures",
    "Moment",
    "Never",
    "NoiseOptimisation",
    "NoiseSearch",
    "Observation",
    "OnStep",
    "Particles",
    "Pooled",
    "Previewing",
    "Problem",
    "ReNO",
    "Resampling",
    "SRSoup",
    "Sampler",
    "Scalarised",
    "SearchOverPaths",
    "Selection",
    "Shaping",
    "Sharing",
    "Soup",
    "StepState",
    "Surrogate",
    "UniversalGuidance",
    "Value",
    "WeightedSum",
    "ZeroOrder",
]
