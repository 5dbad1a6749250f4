"""Asking black-box rewards: checked, counted, retried and cached."""

from srsoup_lightning.oracle.answers import Answers
from srsoup_lightning.oracle.oracle import RewardOracle
from srsoup_lightning.oracle.policy import NoGradientError, OraclePolicy, RewardError, finite_gradient
from srsoup_lightning.oracle.wrappers import Question

__all__ = [
    "Answers",
    "NoGradientError",
    "OraclePolicy",
    "Question",
    "RewardError",
    "RewardOracle",
    "finite_gradient",
]
