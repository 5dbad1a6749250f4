"""What each objective learns on tiny-animals and its flow within an hour: ``python -m benchmarks.finetuning``.

Each run is a builtin config of ``srsoup fit``, for a seed. Its validations compare the tuned model with the base model
on animals that are held out of the training, 24 pictures each time, in standard deviations of the base model's
pictures. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.fits import LARGER_STEPS, OBJECTIVE, TRAIN, WEIGHTS, fit, prompts_of
from benchmarks.machine import describe
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.files import read_rows, to_lines, write_atomically

RESULTS = Path("benchmarks/results/finetuning.jsonl")
DISTILLED_ALONE = {  # the distillation of a search for one reward
    WEIGHTS: "[[1, 0, 0]]",
    f"{TRAIN}.conditioning": "null",
    f"{TRAIN}.lora.rank": "8",
    f"{TRAIN}.updates": "4",
    f"{OBJECTIVE}.groups": "3",
    f"{OBJECTIVE}.searches.search.candidates": "4",
    "data.validation_seeds": "[0, 1, 2, 3]",
    "trainer.max_epochs": "12",
    "trainer.check_val_every_n_epoch": "3",
}
EVERY_STEP = {  # DDPO's way: all steps draw noise and are trained
    f"{OBJECTIVE}.trust": "clip",
    f"{OBJECTIVE}.steps": "srsoup_lightning.finetune.AllSteps",
    f"{TRAIN}.optimizer.init_args.lr": "1.0e-2",
    "trainer.max_epochs": "15",
}
EVERY_STEP_OF_A_FLOW = {  # Flow-GRPO's way: the same, but for the last step
    f"{OBJECTIVE}.trust": "clip",
    f"{OBJECTIVE}.steps.init_args.length": "9",
    f"{OBJECTIVE}.steps.init_args.last": "9",
    f"{TRAIN}.optimizer.init_args.lr": "1.0e-2",
    "trainer.max_epochs": "24",
    "trainer.check_val_every_n_epoch": "4",
}
SEEN = "[a hippopotamus, a snail, a leopard, a crocodile, a lobster, an octopus]"  # those that the training has too
RUNS: dict[str, tuple[str, dict[str, str]]] = {
    "PolicyGradient, jpeg": ("animals_ddpo", {}),
    "PolicyGradient on every step, jpeg": ("animals_ddpo", EVERY_STEP),
    "Matching, jpeg": ("animals_nft", {}),
    "Matching by larger steps, jpeg": ("animals_nft", LARGER_STEPS),
    "DRaFT, clip": ("animals_draft", {}),
    "DRaFT on seen animals, clip": ("animals_draft", {"data.validation_prompts": SEEN, "trainer.max_epochs": "40"}),
    "DRaFT on scenes, clip": (
        "animals_draft",
        {"data.prompts": prompts_of("animals_conditioned"), "trainer.max_epochs": "40"},
    ),
    "DRaFT, color": ("animals_draft", {WEIGHTS: "[[0, 1]]"}),
    "DiffusionDPO, jpeg": ("animals_dpo", {}),
    "DenseDPO, jpeg": ("animals_dense", {}),
    "SoupDistillation, jpeg": ("animals_distillation", DISTILLED_ALONE),
    "PolicyGradient on a flow, jpeg": ("animals_flow_grpo", {}),
    "PolicyGradient on every step of a flow, jpeg": ("animals_flow_grpo", EVERY_STEP_OF_A_FLOW),
    "Matching on a flow, jpeg": ("animals_nft", {"model.pipeline": "tiny-animals-flow", "trainer.max_epochs": "24"}),
}


def main(
    out: Path = RESULTS,
    workdir: Path = Path("build/finetuning"),
    runs: list[str] = list(RUNS),  # noqa: B006 - jsonargparse shows the default
    seeds: list[int] = [0, 1],  # noqa: B006
) -> None:
    """Make the runs that are not finished, and write the rows of all their validations.

    Args:
        out: Where the rows go.
        workdir: Folder of the run directories.
        runs: Names of the runs, see ``RUNS``.
        seeds: Seeds of the trainings and of their adapters.
    """
    for seed in seeds:
        for name in runs:
            config, options = RUNS[name]
            root = workdir / f"{name.replace(', ', '-')}-{seed}"
            fit(name, root, config, seed, options)
            _keep(out, name, seed, RunDirectory(root).validation)
            Console().print(f"{name}, seed {seed}: {_last_gains(out, name, seed)}", markup=False)


def _keep(out: Path, name: str, seed: int, table: Path) -> None:
    """Put the rows of a run in place of earlier ones."""
    others = [row for _, row in read_rows(out) if (row["run"], row["seed"]) != (name, seed)]
    about = {"run": name, "seed": seed, "machine": describe(), "dtype": "float32"}
    rows = [*others, *(about | row for _, row in read_rows(table))]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, to_lines(rows))


def _last_gains(out: Path, name: str, seed: int) -> str:
    rows: list[dict[str, Any]] = [row for _, row in read_rows(out) if (row["run"], row["seed"]) == (name, seed)]
    return json.dumps(rows[-1]["gains"])


if __name__ == "__main__":
    auto_cli(main)
