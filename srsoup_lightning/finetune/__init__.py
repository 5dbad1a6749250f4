"""Objectives that fine-tune a LoRA by rewards, on the pipelines, rewards and prompts that samplers work on."""

from srsoup_lightning.finetune.base import Objective
from srsoup_lightning.finetune.conditioning import Conditioning
from srsoup_lightning.finetune.dense import DenseDPO
from srsoup_lightning.finetune.distillation import SoupDistillation
from srsoup_lightning.finetune.dpo import DiffusionDPO
from srsoup_lightning.finetune.draft import DRaFT
from srsoup_lightning.finetune.in_context import RewardsInContext
from srsoup_lightning.finetune.kept_searches import KeptSearches
from srsoup_lightning.finetune.matching import Matching
from srsoup_lightning.finetune.matching_losses import AWM, NFT, Decay
from srsoup_lightning.finetune.pairs import Pairs, RankedSamples
from srsoup_lightning.finetune.picture_pairs import PairTable, PicturePairs, RankedRuns
from srsoup_lightning.finetune.policy_gradient import PolicyGradient
from srsoup_lightning.finetune.searches import OnlineSearch, Searches
from srsoup_lightning.finetune.steps import AllSteps, RandomSteps, Steps, Window
from srsoup_lightning.finetune.training import LoRA, Training

__all__ = [
    "AWM",
    "NFT",
    "AllSteps",
    "Conditioning",
    "DRaFT",
    "Decay",
    "DenseDPO",
    "DiffusionDPO",
    "KeptSearches",
    "LoRA",
    "Matching",
    "Objective",
    "OnlineSearch",
    "PairTable",
    "Pairs",
    "PicturePairs",
    "PolicyGradient",
    "RandomSteps",
    "RankedRuns",
    "RankedSamples",
    "RewardsInContext",
    "Searches",
    "SoupDistillation",
    "Steps",
    "Training",
    "Window",
]
