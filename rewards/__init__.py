"""Rewards: each is a torchmetrics ``Metric`` with a ``score`` that gives one number per image.

Images are ``(B, 3, H, W)`` floats in ``[0, 1]``, prompts a list of ``B`` strings, scores ``(B,)``. Higher is better.
The pure measures behind some rewards are in :mod:`rewards.functional`. This package can be used without samplers and
training, and does not import them.
"""

from rewards.aesthetic import AestheticScore
from rewards.base import Reward
from rewards.brightness import Brightness
from rewards.clip_score import CLIPScore
from rewards.colorfulness import Colorfulness
from rewards.contrast import Contrast
from rewards.function_reward import FunctionReward
from rewards.hps import HPSv2
from rewards.http_reward import HTTPReward
from rewards.image_reward import ImageReward
from rewards.jpeg import JPEGCompressibility, JPEGIncompressibility, JPEGSize
from rewards.metric_reward import MetricReward
from rewards.pick_score import PickScore
from rewards.sharpness import Sharpness
from rewards.symmetry import Symmetry
from rewards.vqa_score import VQAScore

__all__ = [
    "AestheticScore",
    "Brightness",
    "CLIPScore",
    "Colorfulness",
    "Contrast",
    "FunctionReward",
    "HPSv2",
    "HTTPReward",
    "ImageReward",
    "JPEGCompressibility",
    "JPEGIncompressibility",
    "JPEGSize",
    "MetricReward",
    "PickScore",
    "Reward",
    "Sharpness",
    "Symmetry",
    "VQAScore",
]
