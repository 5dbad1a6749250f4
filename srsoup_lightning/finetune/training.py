"""Options of a fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn import Parameter
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from rewards.checks import require_instance
from srsoup_lightning.finetune.base import Objective
from srsoup_lightning.finetune.conditioning import Conditioning

if TYPE_CHECKING:
    from peft import LoraConfig

ATTENTION = ("to_k", "to_q", "to_v", "to_out.0")  # projections of attention layers in diffusers' networks


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Low-rank adapter of the denoising network (Hu et al. 2021, arXiv:2106.09685).

    Args:
        rank: Rank of the update of each weight, at least 1.
        alpha: The update is scaled by alpha / rank. None takes the rank, which scales by 1.
        targets: Ends of the names of the layers that are adapted.
        gaussian: Draw matrix A from a normal distribution, as most trainers of diffusion models do. Otherwise it is
            peft's default, a uniform one.
        seed: Seed of matrix A. All adapters of a study should have one seed: their factors then stay comparable.
        start: Folder, file or hub id of a LoRA to go on from, in the format of diffusers, peft or kohya. Its own rank,
            alpha and layers then replace those above. None starts from the base model.

    Raises:
        ValueError: The rank is below 1, or there are no targets.
    """

    rank: int = 4
    alpha: int | None = None
    targets: tuple[str, ...] = ATTENTION
    gaussian: bool = True
    seed: int = 0
    start: str | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}: give at least 1")
        if not self.targets:
            raise ValueError("targets is empty, so no parameter would be trained: name layers, such as to_q and to_v")

    def config(self) -> LoraConfig:
        """Return peft's config."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.rank,
            lora_alpha=self.rank if self.alpha is None else self.alpha,
            target_modules=list(self.targets),
            init_lora_weights="gaussian" if self.gaussian else True,
        )


@dataclass(frozen=True, kw_only=True)
class Training:
    """Fine-tuning of a LoRA, for one preference or for all.

    An epoch of the Trainer is one round of the objective.

    Args:
        objective: Aim.
        lora: Adapter that is trained.
        optimizer: Makes the optimizer of the trained weights. None is AdamW with a learning rate of 3e-4 and a weight
            decay of 1e-4.
        scheduler: Makes the schedule of the learning rate, whose steps are optimizer steps. None keeps it constant.
        updates: Optimizer steps in a round, at least 1. None leaves it to the Trainer's ``accumulate_grad_batches``.
        seed: Seed of all random numbers of the training, apart from the adapter's, at least 0.
        conditioning: Makes the preference an input of the adapter, which then serves every preference between the
            rewards that have weight. None tunes for one preference.

    Raises:
        TypeError: A part is of another class.
        ValueError: A number is outside its range.
    """

    objective: Objective
    lora: LoRA = LoRA()
    optimizer: Callable[[Iterable[Parameter]], Optimizer] | None = None
    scheduler: Callable[[Optimizer], LRScheduler] | None = None
    updates: int | None = 1
    seed: int = 0
    conditioning: Conditioning | None = None

    def __post_init__(self) -> None:
        require_instance("objective", self.objective, Objective)
        require_instance("lora", self.lora, LoRA)
        require_instance("conditioning", self.conditioning, Conditioning, optional=True)
        if self.updates is not None and self.updates < 1:
            raise ValueError(f"updates is {self.updates}: give at least 1 optimizer step in a round")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}: give a whole number of at least 0")

    def optimizer_of(self, weights: Iterable[Parameter]) -> Optimizer:
        """Return the optimizer of the trained weights."""
        if self.optimizer is None:
            return AdamW(weights, lr=3e-4, weight_decay=1e-4)
        return self.optimizer(weights)
