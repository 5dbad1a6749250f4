"""Pipelines, preview decoders and configs that come with the package, by name."""

from __future__ import annotations

from pathlib import Path

from rewards.builtin import BuiltinFolder

_PACKAGE = Path(__file__).resolve().parent

PIPELINES = BuiltinFolder(_PACKAGE, "checkpoints", "model_index.json")
PREVIEW_DECODERS = BuiltinFolder(_PACKAGE, "checkpoints", "config.json")
CONFIGS = BuiltinFolder(_PACKAGE, "configs", ".yaml")
