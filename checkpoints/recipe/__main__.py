"""Make tiny-clip and tiny-animals from nothing: ``python -m checkpoints.recipe --workdir build/recipe``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import auto_cli

from checkpoints.recipe.autoencoder import train_autoencoder
from checkpoints.recipe.clip import train_clip
from checkpoints.recipe.denoiser import train_denoiser
from checkpoints.recipe.export import export
from checkpoints.recipe.scenes import FONT, draw_many

LOGGER = logging.getLogger("checkpoints.recipe")
STAGES = ("clip", "autoencoder", "denoiser", "export")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long a network trains and how fast."""

    steps: int
    batch_size: int
    learning_rate: float


def main(
    workdir: Path = Path("build/recipe"),
    stages: list[str] = list(STAGES),  # noqa: B006 - jsonargparse shows the default
    font: Path = FONT,
    scenes: int = 24_000,
    seed: int = 0,
    clip: Schedule = Schedule(steps=1_000, batch_size=96, learning_rate=1e-3),
    autoencoder: Schedule = Schedule(steps=3_500, batch_size=16, learning_rate=2e-3),
    denoiser: Schedule = Schedule(steps=6_500, batch_size=32, learning_rate=1e-3),
) -> None:
    """Run the stages that have no result in `workdir` yet; a stopped one goes on from its last epoch.

    Args:
        workdir: Folder of the trainings; what is finished in it isn't done again.
        stages: Which stages to run, of clip, autoencoder, denoiser and export.
        font: The font file of Noto Color Emoji.
        scenes: How many training pictures to draw.
        seed: Seed of the pictures and of every training.
        clip: Schedule of the contrastive training.
        autoencoder: Schedule of the autoencoder.
        denoiser: Schedule of the UNet.
    """
    unknown = set(stages) - set(STAGES)
    if unknown:
        raise ValueError(f"unknown stages {sorted(unknown)}: choose from {', '.join(STAGES)}")
    pictures, shown = draw_many(scenes, seed, font)
    folders = {stage: workdir / stage for stage in STAGES}
    models = {stage: folder / "model" for stage, folder in folders.items()}
    run: dict[str, Callable[[], None]] = {
        "clip": lambda: train_clip(pictures, shown, folders["clip"], seed=seed, **vars(clip)),
        "autoencoder": lambda: train_autoencoder(pictures, folders["autoencoder"], seed=seed, **vars(autoencoder)),
        "denoiser": lambda: train_denoiser(
            pictures, shown, models["clip"], models["autoencoder"], folders["denoiser"], seed=seed, **vars(denoiser)
        ),
        "export": lambda: export(models["clip"], models["denoiser"], Path(__file__).parents[1], font),
    }
    for stage in STAGES:
        if stage in stages and not models[stage].exists():
            LOGGER.info("stage %s", stage)
            run[stage]()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    auto_cli(main)
