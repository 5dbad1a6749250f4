"""Over-optimisation made visible: each validation of a fit is compared with the base model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from srsoup_lightning.callbacks.compared import Compared, Measures, ScoredPicture, measures_of, sheet_of, worst_held_out
from srsoup_lightning.callbacks.tensorboard import first_board
from srsoup_lightning.costs.ledger import Ledger, added
from srsoup_lightning.data import SoupRequest
from srsoup_lightning.finetune.divergence import divergence_from_base
from srsoup_lightning.finetune.finetuning import Finetuning
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.pareto.diversity import Embedding, thumbnails
from srsoup_lightning.report.run_tables import config_markdown
from srsoup_lightning.report.sheet import reduced
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.files import append_rows, is_torn, read_rows, to_lines, write_atomically
from srsoup_lightning.runs.naming import prompt_label
from srsoup_lightning.runs.rows import grouped
from srsoup_lightning.samplers.result import Soup

logger = logging.getLogger(__name__)


class OverOptimisation(Callback):
    """Compares the pictures of each validation of a fit with those of the base model, from the same random numbers.

    The prompts and seeds are the validation's, and its schedule is ``trainer.check_val_every_n_epoch``. A reward that
    should stay as it is takes part with weight 0 in the preference: it is held out. The module logs the rewards of the
    tuned model. This callback logs, as ``validation/...``:

    - ``base/<reward>``: rewards of the base model, the same each time.
    - ``gain/<reward>``: the mean difference, in standard deviations of the base model's pictures.
    - ``value``: the weighted sum of these differences, with the weights of each picture's preference.
    - ``distance_to_base/<features>``: mean distance of a picture from the base model's picture of its seed.
    - ``diversity/<features>``: mean distance between the seeds of a prompt, and that of the base model as
      ``base/diversity/<features>``.
    - ``kl``: divergence from the base model, see :func:`~srsoup_lightning.finetune.divergence.divergence_from_base`. A
      sampler whose eta is 0 has none.
    - ``sheet/<prompt>``: pictures in TensorBoard, the base model above, the tuned model below.

    TensorBoard shows the config of the fit too, as a text.

    All of this is also a row of ``validation.jsonl`` in the Trainer's ``default_root_dir``, beside the costs of the
    training so far and those of this validation. A warning says once when
    the target rises while a held-out reward falls by more than one standard deviation.

    The base model makes its pictures once. With K denoising steps, a later picture costs up to 2 K network evaluations
    more, for the divergence.

    Args:
        features: Network from images (B, 3, H, W) in [0, 1] to vectors (B, D) whose Euclidean distance counts, such as
            ``rewards.features.ImageNetFeatures()``, which sees shapes and textures. None takes the root mean square
            difference of the pixels of thumbnails, which sees colours and layout. The name of the class, or
            "thumbnails", is in the tags.
        sheets: Number of prompts whose pictures are logged, the first ones; 0 for none.

    Raises:
        ValueError: `sheets` is negative.
    """

    def __init__(self, features: nn.Module | None = None, sheets: int = 8) -> None:
        if sheets < 0:
            raise ValueError(f"sheets is {sheets}: give 0 or more")
        self.features, self.sheets = features, sheets
        self._embed: Embedding = thumbnails if features is None else features
        self._name = "thumbnails" if features is None else type(features).__name__
        self._base: dict[SoupRequest, list[ScoredPicture]] = {}
        self._pictures: list[Compared] = []
        self._ledgers: list[Ledger] = []
        self._warned = False

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget an earlier fit, and show the config in TensorBoard."""
        self._base, self._pictures, self._warned = {}, [], False
        board, config = first_board(trainer), config_markdown(RunDirectory(trainer.default_root_dir))
        if board is not None and config:
            board.experiment.add_text("config", config, trainer.global_step)
        if self.features is not None:
            self.features.to(pl_module.device)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start a validation."""
        self._pictures, self._ledgers = [], []

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401 - a Soup, if the module is ours
        batch: SoupRequest,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Compare the pictures of the tuned model with those of the base model."""
        fit = _Fit.of(trainer, pl_module)
        if fit is None:
            return
        module, policy = fit.module, fit.finetuning.policy
        with trainer.precision_plugin.val_step_context():
            problem = module.problem(batch.prompt).serving(module.preferences.weights.mean(0))
            if batch not in self._base:
                with policy.reference():
                    soup = module.sampler.run(problem, module.preferences, *batch)
                self._base[batch] = self._scored(soup, module.device)
            divergence = divergence_from_base(problem, policy, batch.seed)
        first = (batch_idx * trainer.world_size + trainer.global_rank) * len(module.preferences)
        self._ledgers += [outputs.ledger, problem.ledger]
        tuned, names, weights = self._scored(outputs, module.device), outputs.preference_names, outputs.preferences
        self._pictures += [
            Compared(first + number, *batch, base, tuned[number], divergence, names[number], weights[number])
            for number, base in enumerate(self._base[batch])
        ]

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the comparison of the pictures of all processes."""
        fit = _Fit.of(trainer, pl_module)
        if fit is None:
            return
        shares, spent = fit.finetuning.processes.gather(self._pictures), fit.finetuning.spent()
        validation = added([each for share in fit.finetuning.processes.gather(self._ledgers) for each in share])
        pictures = sorted((each for share in shares for each in share), key=lambda each: each.number)
        measures = measures_of(pictures, fit.module.preferences.rewards)
        pl_module.log_dict(self._values(measures), sync_dist=True)
        if trainer.is_global_zero:
            self._warn(measures, fit)
            row = {"round": fit.round, "step": trainer.global_step, "pictures": len(pictures), "features": self._name}
            row |= {"queries": spent.total_queries, "nfe": spent.nfe, "gradients": spent.gradients}
            row |= {"seconds": spent.seconds} | measures._asdict()
            row |= {f"validation_{cost}": getattr(validation, cost) for cost in ("nfe", "decodes", "seconds")}
            write_row(RunDirectory(trainer.default_root_dir).validation, row)
            self._draw_sheets(trainer, pictures, fit.module.preferences.rewards)

    def _scored(self, soup: Soup, device: torch.device) -> list[ScoredPicture]:
        """Return the picture of each preference."""
        features = self._embed(soup.images.to(device)).cpu()
        pictures = zip(soup.rewards, features, soup.images, strict=True)
        return [ScoredPicture(rewards, each, reduced(image)) for rewards, each, image in pictures]

    def _values(self, measures: Measures) -> dict[str, float]:
        """Return values to log by tag, without those that the measures lack."""
        values: dict[str, float | None] = {f"gain/{name}": gain for name, gain in measures.gains.items()}
        values |= {
            "value": measures.value,
            f"distance_to_base/{self._name}": measures.distance_to_base,
            f"diversity/{self._name}": measures.diversity,
            "kl": measures.kl,
            f"base/diversity/{self._name}": measures.base_diversity,
            **{f"base/{name}": reward for name, reward in measures.base.items()},
        }
        return {f"validation/{tag}": value for tag, value in values.items() if value is not None}

    def _warn(self, measures: Measures, fit: _Fit) -> None:
        name = worst_held_out(measures, fit.module.preferences.weighted)
        if name is None or self._warned:
            return
        self._warned = True
        logger.warning(
            "over-optimisation: in round %d the target has risen by %.1f standard deviations of the base model's "
            "pictures, and %s, which is held out, has fallen by %.1f: take the adapter of an earlier round, or hold "
            "the model closer to the base model",
            fit.round,
            measures.value,
            name,
            -measures.gains[name],
        )

    def _draw_sheets(self, trainer: L.Trainer, pictures: Sequence[Compared], names: Sequence[str]) -> None:
        board = first_board(trainer)
        if board is None:
            return
        by_prompt = list(grouped(pictures, lambda each: each.prompt).items())
        for prompt, shown in by_prompt[: self.sheets]:
            tag = f"validation/sheet/{prompt_label(prompt)}"
            sheet = np.asarray(sheet_of(prompt, shown, names))
            board.experiment.add_image(tag, sheet, trainer.global_step, dataformats="HWC")


def write_row(path: Path, row: dict[str, Any]) -> None:
    """Append the row of a validation. Rows that are not from before its step go: a resumed fit makes them again.

    Args:
        path: Table of a fit's validations.
        row: Row with the optimizer step as ``step``.

    Raises:
        ValueError: A row of the table is damaged that is not the last one.
    """
    rows = [before for _, before in read_rows(path)]
    kept = [before for before in rows if before["step"] < row["step"]]
    if len(kept) < len(rows) or is_torn(path):
        write_atomically(path, to_lines([*kept, row]))
    else:
        append_rows(path, [row])


class _Fit(NamedTuple):
    module: SRSoupModule
    finetuning: Finetuning

    @classmethod
    def of(cls, trainer: L.Trainer, module: L.LightningModule) -> _Fit | None:
        """Return the fit that a validation belongs to. None if it belongs to none, or is only a check of the code."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return None
        if not isinstance(module, SRSoupModule) or module.finetuning is None:
            return None
        return cls(module, module.finetuning)

    @property
    def round(self) -> int:
        """Number of the round under way, from 1."""
        return self.finetuning.rounds + 1
