"""The pipelines, preview decoders and configs that come with the package, by name."""

from __future__ import annotations

from pathlib import Path

from rewards.shipped import Shelf

_PACKAGE = Path(__file__).resolve().parent

PIPELINES = Shelf(_PACKAGE, "checkpoints", "model_index.json")
PREVIEW_DECODERS = Shelf(_PACKAGE, "checkpoints", "config.json")
CONFIGS = Shelf(_PACKAGE, "configs", ".yaml")
