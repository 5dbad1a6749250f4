"""Hooks of Lightning's fit: each epoch is a round of the objective, and its batches are the losses of the round."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from copy import deepcopy
from time import perf_counter
from typing import Any, Self

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from srsoup_lightning.costs.meter import Meter
from srsoup_lightning.diffusion.backbone import Backbone
from srsoup_lightning.finetune.finetuning import Finetuning
from srsoup_lightning.finetune.policy import Policy
from srsoup_lightning.finetune.processes import Processes
from srsoup_lightning.finetune.training import Training
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import Problem
from srsoup_lightning.search.scalarise import Value

logger = logging.getLogger(__name__)


class FinetuningHooks(L.LightningModule):
    """Part of a module that tunes a LoRA in ``trainer.fit``.

    Attributes:
        finetuning: Rounds of the objective, once the Trainer has set up a fit.
    """

    finetuning: Finetuning | None = None

    def begin_finetuning(
        self,
        training: Training,
        backbone: Backbone,
        problem_of: Callable[[str, Meter], Problem],
        preferences: Preferences,
        limited: Callable[[Meter], AbstractContextManager[None]] | None = None,
    ) -> None:
        """Make the rounds of an objective, for a backbone with a trained LoRA.

        Args:
            training: Options.
            backbone: Model.
            problem_of: Returns the denoising process of a prompt.
            preferences: One preference, or several where the preference is an input of the adapter.
            limited: Returns a context that keeps a round's costs within the limits. None sets no limits.

        Raises:
            ValueError: The Trainer's options do not fit, or see :class:`Finetuning`.
        """
        weights, processes, before = preferences.weights.mean(0), _processes(self.trainer), self.finetuning
        self.finetuning = Finetuning(training, Policy(backbone), problem_of, weights, processes, limited)
        if before is not None:  # of an earlier fit of this module, which a fit goes on with
            self.finetuning.load_state_dict(before.state_dict())
        if training.objective.guidance_scale <= 1 and self.trainer.is_global_zero:
            logger.warning(
                "guidance_scale is %g, so samples are drawn without guidance: a model that needs it draws poorer ones "
                "then, and learns from these; the validation tells whether it does better",
                training.objective.guidance_scale,
            )
        if training.updates is not None:
            if self.trainer.accumulate_grad_batches != 1:
                raise ValueError(
                    f"trainer.accumulate_grad_batches is {self.trainer.accumulate_grad_batches} and training.updates "
                    f"is {training.updates}: give updates: null, or leave the other out"
                )
            self.trainer.accumulate_grad_batches = -(-self.finetuning.batches // training.updates)

    def round_loader(self) -> DataLoader[int]:
        """Return the loader of a round's batches, which are numbers that :class:`Finetuning` knows."""
        order = RoundOrder(self._tuned())
        return DataLoader(order.dataset, batch_size=1, collate_fn=_only, sampler=order)

    def on_train_epoch_start(self) -> None:
        """Collect the round's samples, in the precision of the Trainer."""
        if self.finetuning is None:  # a subclass trains something else
            return
        prompts = getattr(getattr(self.trainer, "datamodule", None), "prompts", None)
        if prompts is None:
            raise ValueError("a fit takes its prompts from a PromptDataModule: give one as trainer.fit(datamodule=...)")
        with self.trainer.precision_plugin.forward_context():
            self.finetuning.collect(prompts)

    def on_train_batch_start(self, batch: int, batch_idx: int) -> None:
        """Start the clock of the training's costs."""
        self._started = perf_counter()

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        """Return the loss of a part of a group at one denoising step."""
        return self._tuned().loss(batch).value

    def on_train_batch_end(self, outputs: object, batch: int, batch_idx: int) -> None:
        """Stop the clock."""
        if self.finetuning is not None:
            self.finetuning.meter.ledger.seconds += perf_counter() - self._started

    def on_train_epoch_end(self) -> None:
        """End the round, before a checkpoint of it is written.

        Raises:
            ValueError: A trained weight is not finite.
        """
        if self.finetuning is None:
            return
        if any(not weight.isfinite().all() for weight in self.parameters() if weight.requires_grad):
            raise ValueError(
                f"trained weights are not finite after round {self.finetuning.rounds + 1}: lower the learning rate or "
                "clip gradients. The adapter of the round before is kept"
            )
        logs = self.finetuning.end_round()
        costs = self.finetuning.costs
        self.log_dict({f"train/{name}": value for name, value in logs.items()})
        self.log("costs/queries", float(costs.total_queries))
        for name in ("nfe", "gradients", "seconds"):
            self.log(f"costs/{name}", float(getattr(costs, name)))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer of the trained weights, and the schedule of its learning rate."""
        training = self._tuned().training
        optimizer = training.optimizer_of([weight for weight in self.parameters() if weight.requires_grad])
        if training.scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": training.scheduler(optimizer), "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out all frozen weights, which the pipeline has, and add the state of the objective."""
        trained = {name for name, weight in self.named_parameters() if weight.requires_grad}
        for key in {"state_dict", "current_model_state"} & checkpoint.keys():  # the latter is of averaged weights
            checkpoint[key] = {name: value for name, value in checkpoint[key].items() if name in trained}
        if self.finetuning is not None:
            checkpoint["finetuning"] = self.finetuning.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state of the objective. An average of weights finds the frozen ones in the checkpoint again."""
        if "current_model_state" in checkpoint:
            frozen = {name: value for name, value in self.state_dict().items() if name not in checkpoint["state_dict"]}
            for key in ("state_dict", "current_model_state"):
                checkpoint[key] = frozen | checkpoint[key]
        if self.finetuning is not None and "finetuning" in checkpoint:
            self.finetuning.load_state_dict(checkpoint["finetuning"])

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Return a copy that has trained weights of its own and shares all else, as an average of weights needs it."""
        frozen = [weight for weight in self.parameters() if not weight.requires_grad]
        plain = [value for name, value in vars(self).items() if not name.startswith("_")]
        memo |= {id(each): each for each in (*frozen, *self.buffers(), *plain)}
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        vars(copied).update(deepcopy(self.__getstate__(), memo))
        return copied

    def _tuned(self) -> Finetuning:
        if self.finetuning is None:
            raise RuntimeError("the Trainer sets a fit up before it asks for its parts: call trainer.fit")
        return self.finetuning


class RoundOrder(DistributedSampler[int]):
    """Order of a round's batches. Lightning leaves a DistributedSampler as it is.

    Args:
        finetuning: Rounds of the objective.
    """

    def __init__(self, finetuning: Finetuning) -> None:
        super().__init__(range(finetuning.batches), num_replicas=1, rank=0)  # type: ignore[arg-type]
        self.finetuning = finetuning

    def __iter__(self) -> Iterator[int]:
        return iter(self.finetuning.order())


def is_fitting(module: L.LightningModule) -> bool:
    """Return whether the module's Trainer is in a fit."""
    return module._trainer is not None and module.trainer.state.fn == TrainerFn.FITTING


def require_stage(training: Training | None, preferences: Preferences, stage: str) -> None:
    """Check that a fit has an objective, its preferences and its files, and that ``predict`` has no objective.

    Raises:
        FileNotFoundError: A file of pairs is missing.
        ValueError: One of them is not so, or a file of pairs is damaged.
    """
    if stage == "predict" and training is not None:
        raise ValueError(
            f"training has the objective {type(training.objective).__name__}, and predict trains nothing: run "
            "srsoup fit (trainer.fit), or leave model.training out"
        )
    if stage == "fit" and training is None:
        raise ValueError(
            "a fit needs an objective: give model.training, as in the config animals_ddpo, or run srsoup predict"
        )
    if stage != "fit" or training is None:
        return
    if training.conditioning is None and len(preferences) != 1:
        raise ValueError(
            f"{len(preferences)} preferences are given, and a fit tunes one adapter for one of them: give a single "
            "one, or training.conditioning, which makes the preference an input of the adapter"
        )
    if training.objective.needs_conditioning and training.conditioning is None:
        raise ValueError(
            f"{type(training.objective).__name__} trains an adapter that has scores as inputs: give "
            "training.conditioning, such as {kind: embedding}"
        )
    if training.conditioning is not None and len(preferences.weighted) < 2:
        raise ValueError(
            f"training.conditioning is given, and {preferences.weighted} alone has weight: give preferences between at "
            "least two rewards, or leave it out"
        )
    if training.conditioning is not None and not training.objective.draws_inputs and training.conditioning.shares_given:
        raise ValueError(
            f"conditioning has {training.conditioning.shares_given}, and {type(training.objective).__name__} trains "
            "the inputs of its data and draws none: leave these out"
        )
    training.objective.prompts((), preferences.rewards, Value(preferences.weights.mean(0)))  # reads what is on disk


def _processes(trainer: L.Trainer) -> Processes:
    def gather(value: Any) -> list[Any]:  # noqa: ANN401 - any object that can be sent
        if trainer.world_size == 1:
            return [value]
        values: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(values, value)
        return values

    return Processes(trainer.global_rank, trainer.world_size, gather)


def _only(batch: list[int]) -> int:
    (number,) = batch
    return number
