"""Train the builtin checkpoints from scratch: ``python -m checkpoints.recipe --workdir build/recipe``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli
from torch import Tensor

from checkpoints.recipe.autoencoder import refine_decoder, train_autoencoder
from checkpoints.recipe.clip import train_clip
from checkpoints.recipe.denoiser import DenoiserTraining
from checkpoints.recipe.export import export, export_flow, export_preview
from checkpoints.recipe.flow import FlowTraining
from checkpoints.recipe.pipeline import PipelineTraining, train_pipeline
from checkpoints.recipe.preview import train_preview_decoder
from checkpoints.recipe.scenes import FONT, Scene, draw_many

LOGGER = logging.getLogger("checkpoints.recipe")
STAGES = ("clip", "autoencoder", "decoder", "denoiser", "preview", "export", "flow", "export_flow")
CHECKPOINTS = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Number of scenes, number of steps, batch size and learning rate of one training."""

    scenes: int
    steps: int
    batch_size: int
    learning_rate: float

    @property
    def training(self) -> dict[str, Any]:
        """The arguments of a training."""
        return {"steps": self.steps, "batch_size": self.batch_size, "learning_rate": self.learning_rate}


@dataclass(frozen=True)
class Recipe:
    """Stages of the recipe.

    Each stage is a method that saves its result in ``workdir/<stage>/model``. The stage export writes the checkpoints.
    """

    workdir: Path
    font: Path
    seed: int
    schedules: dict[str, Schedule]
    flow_start: Path | None = None

    def model(self, stage: str) -> Path:
        """Folder in which a stage saves its network."""
        return self.workdir / stage / "model"

    def clip(self) -> None:
        """Train tiny-clip. Its text tower is the pipeline's text encoder."""
        train_clip(*self._scenes("clip"), self.workdir / "clip", **self._training("clip"))

    def autoencoder(self) -> None:
        """Train the encoder and the decoder together."""
        pictures, _ = self._scenes("autoencoder")
        train_autoencoder(pictures, self.workdir / "autoencoder", **self._training("autoencoder"))

    def decoder(self) -> None:
        """Train the decoder further. The encoder stays as it is."""
        pictures, _ = self._scenes("decoder")
        start = self.model("autoencoder")
        refine_decoder(pictures, start, self.workdir / "decoder", **self._training("decoder"))

    def denoiser(self) -> None:
        """Train the UNet on the latents of the trained encoder."""
        parts = self.model("clip"), self.model("autoencoder")
        self._train_pipeline(DenoiserTraining, "denoiser", parts)

    def preview(self) -> None:
        """Distil the trained decoder into a small one."""
        pictures, _ = self._scenes("preview")
        train_preview_decoder(pictures, self.model("decoder"), self.workdir / "preview", **self._training("preview"))

    def export(self) -> None:
        """Write the builtin checkpoints, measure their quality and write their model cards."""
        parts = (self.model(stage) for stage in ("clip", "decoder", "denoiser"))
        export(*parts, CHECKPOINTS, self.font)
        export_preview(self.model("preview"), CHECKPOINTS, self.font)

    def flow(self) -> None:
        """Train the transformer of tiny-animals-flow on the latents and the text tower that were exported."""
        parts = CHECKPOINTS / "tiny-clip", CHECKPOINTS / "tiny-animals" / "vae"
        self._train_pipeline(FlowTraining, "flow", parts, self.flow_start)

    def export_flow(self) -> None:
        """Write tiny-animals-flow, measure its quality and write its model card."""
        export_flow(self.model("flow"), CHECKPOINTS)

    def _train_pipeline(
        self, kind: type[PipelineTraining], stage: str, parts: tuple[Path, Path], start: Path | None = None
    ) -> None:
        train_pipeline(kind, *self._scenes(stage), *parts, self.workdir / stage, **self._training(stage), start=start)

    def _scenes(self, stage: str) -> tuple[Tensor, list[Scene]]:
        return draw_many(self.schedules[stage].scenes, self.seed, self.font)

    def _training(self, stage: str) -> dict[str, Any]:
        return {**self.schedules[stage].training, "seed": self.seed}


def main(
    workdir: Path = Path("build/recipe"),
    stages: list[str] = list(STAGES),  # noqa: B006 - jsonargparse shows the default
    font: Path = FONT,
    seed: int = 0,
    clip: Schedule = Schedule(scenes=24_000, steps=1_000, batch_size=96, learning_rate=1e-3),
    autoencoder: Schedule = Schedule(scenes=24_000, steps=3_500, batch_size=16, learning_rate=2e-3),
    decoder: Schedule = Schedule(scenes=24_000, steps=9_000, batch_size=16, learning_rate=1e-3),
    denoiser: Schedule = Schedule(scenes=24_000, steps=10_000, batch_size=32, learning_rate=1e-3),
    preview: Schedule = Schedule(scenes=4_096, steps=1_250, batch_size=32, learning_rate=2e-3),
    flow: Schedule = Schedule(scenes=24_000, steps=12_000, batch_size=32, learning_rate=1e-3),
    flow_start: Path | None = None,
) -> None:
    """Run the stages that have no result in `workdir` yet. A stage that was stopped continues after its last epoch.

    Args:
        workdir: Folder of the trainings. Stages that are finished in it are skipped.
        stages: Stages to run: some of clip, autoencoder, decoder, denoiser, preview, export, flow and export_flow.
        font: The font file of Noto Color Emoji.
        seed: Seed of the pictures and of every training.
        clip: Schedule of the contrastive training.
        autoencoder: Schedule of the autoencoder.
        decoder: Schedule of the autoencoder's decoder, once its encoder is done.
        denoiser: Schedule of the UNet. It needs the encoder and not the decoder, so both can train at the same time.
        preview: Schedule of the small decoder for previews.
        flow: Schedule of the transformer of tiny-animals-flow.
        flow_start: Folder of a trained transformer to begin the stage flow with.
    """
    unknown = set(stages) - set(STAGES)
    if unknown:
        raise ValueError(f"unknown stages {sorted(unknown)}: choose from {', '.join(STAGES)}")
    schedules = {
        "clip": clip,
        "autoencoder": autoencoder,
        "decoder": decoder,
        "denoiser": denoiser,
        "preview": preview,
        "flow": flow,
    }
    recipe = Recipe(workdir, font, seed, schedules, flow_start)
    for stage in STAGES:
        if stage in stages and not recipe.model(stage).exists():
            LOGGER.info("stage %s", stage)
            getattr(recipe, stage)()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    auto_cli(main)
