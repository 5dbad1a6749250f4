"""Make tiny-clip and tiny-animals from nothing: ``python -m checkpoints.recipe --workdir build/recipe``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """How many scenes a network sees, how long it trains and how fast."""

    scenes: int
    steps: int
    batch_size: int
    learning_rate: float

    @property
    def training(self) -> dict[str, Any]:
        """The arguments of a training."""
        return {"steps": self.steps, "batch_size": self.batch_size, "learning_rate": self.learning_rate}


def main(
    workdir: Path = Path("build/recipe"),
    stages: list[str] = list(STAGES),  # noqa: B006 - jsonargparse shows the default
    font: Path = FONT,
    seed: int = 0,
    clip: Schedule = Schedule(scenes=24_000, steps=1_000, batch_size=96, learning_rate=1e-3),
    autoencoder: Schedule = Schedule(scenes=24_000, steps=3_500, batch_size=16, learning_rate=2e-3),
    denoiser: Schedule = Schedule(scenes=12_000, steps=3_000, batch_size=32, learning_rate=1e-3),
) -> None:
    """Run the stages that have no result in `workdir` yet; a stopped one goes on from its last epoch.

    Args:
        workdir: Folder of the trainings; what is finished in it isn't done again.
        stages: Which stages to run, of clip, autoencoder, denoiser and export.
        font: The font file of Noto Color Emoji.
        seed: Seed of the pictures and of every training.
        clip: Schedule of the contrastive training.
        autoencoder: Schedule of the autoencoder.
        denoiser: Schedule of the UNet.
    """
    unknown = set(stages) - set(STAGES)
    if unknown:
        raise ValueError(f"unknown stages {sorted(unknown)}: choose from {', '.join(STAGES)}")
    folders = {stage: workdir / stage for stage in STAGES}
    models = {stage: folder / "model" for stage, folder in folders.items()}

    def run_clip() -> None:
        pictures, scenes = draw_many(clip.scenes, seed, font)
        train_clip(pictures, scenes, folders["clip"], seed=seed, **clip.training)

    def run_autoencoder() -> None:
        pictures, _ = draw_many(autoencoder.scenes, seed, font)
        train_autoencoder(pictures, folders["autoencoder"], seed=seed, **autoencoder.training)

    def run_denoiser() -> None:
        pictures, scenes = draw_many(denoiser.scenes, seed, font)
        towers = models["clip"], models["autoencoder"]
        train_denoiser(pictures, scenes, *towers, folders["denoiser"], seed=seed, **denoiser.training)

    def run_export() -> None:
        export(models["clip"], models["denoiser"], Path(__file__).parents[1], font)

    run = {"clip": run_clip, "autoencoder": run_autoencoder, "denoiser": run_denoiser, "export": run_export}
    for stage in STAGES:
        if stage in stages and not models[stage].exists():
            LOGGER.info("stage %s", stage)
            run[stage]()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    auto_cli(main)
