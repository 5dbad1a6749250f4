"""Objectives that fine-tune a LoRA by rewards, on the pipelines, rewards and prompts that samplers work on."""

from srsoup_lightning.finetune.base import Objective
from srsoup_lightning.finetune.policy_gradient import PolicyGradient
from srsoup_lightning.finetune.training import LoRA, Training

__all__ = ["LoRA", "Objective", "PolicyGradient", "Training"]
