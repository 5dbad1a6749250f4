"""Measures of fronts, as torchmetrics over moocore, and their intervals. Every reward is maximised."""

from srsoup_lightning.pareto.bootstrap import interval, ratio_interval
from srsoup_lightning.pareto.diversity import Diversity, mean_distance, thumbnails
from srsoup_lightning.pareto.hypervolume import Hypervolume, hypervolume
from srsoup_lightning.pareto.reference_front import InvertedGenerationalDistance, inverted_distance, nondominated
from srsoup_lightning.pareto.scale import Scale
from srsoup_lightning.pareto.spread import MaximumSpread, maximum_spread
from srsoup_lightning.pareto.steering import Monotonicity, Utility, spearman, utility

__all__ = [
    "Diversity",
    "Hypervolume",
    "InvertedGenerationalDistance",
    "MaximumSpread",
    "Monotonicity",
    "Scale",
    "Utility",
    "hypervolume",
    "interval",
    "inverted_distance",
    "maximum_spread",
    "mean_distance",
    "nondominated",
    "ratio_interval",
    "spearman",
    "thumbnails",
    "utility",
]
