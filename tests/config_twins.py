"""Tiny twins of the builtin configs: the same settings, with tiny models in place of those that they name."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from pydoc import locate
from typing import Any

import yaml

from benchmarks.reward_networks import save_aesthetic_head
from srsoup_lightning.builtin import CONFIGS
from tests.diffusion.conftest import tiny_pipeline, tiny_preview_decoder
from tests.diffusion.pipelines import make
from tests.diffusion.test_loras import save_lora
from tests.rewards.conftest import WIDTH, save_tiny_clip

TWINS = {  # of each pipeline
    "tiny-animals": "sd15",
    "tiny-animals-flow": "sd35",
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "sd15",
    "stabilityai/sd-turbo": "sd15",
    "stabilityai/stable-diffusion-xl-base-1.0": "sdxl",
    "stabilityai/stable-diffusion-3.5-medium": "sd35",
}


def settings_of(name: str) -> dict:
    path = CONFIGS.find(name)
    assert path is not None
    return yaml.safe_load(path.read_text())


FITS = [name for name in CONFIGS.names() if "training" in settings_of(name)["model"]]


def save_twins(root: Path) -> dict[str, str]:
    """Save tiny models in the format of the real ones; their folders by name."""
    pipelines = {"sd15": tiny_pipeline(), "sdxl": make("SDXL"), "sd35": make("SD 3")}
    for name, pipeline in pipelines.items():
        pipeline.save_pretrained(root / name)
    pipelines["sdxl"].vae.save_pretrained(root / "vae")
    tiny_preview_decoder(4).save_pretrained(root / "preview")
    save_lora(tiny_pipeline(), root / "lora", "unet")
    save_tiny_clip(root / "clip")
    save_aesthetic_head(root, WIDTH)
    parts = ("vae", "preview", "lora", "clip", "head.safetensors")
    return {name: str(root / name) for name in (*pipelines, *parts)}


def twin_of(name: str, twins: dict[str, str]) -> dict:
    """Settings of a config with tiny models in place of those that it names, and nothing else changed."""
    settings = settings_of(name)
    model = settings["model"]
    model["pipeline"] = twins[TWINS[model["pipeline"]]]
    model.setdefault("loading", {}).update({"height": 16, "width": 16, "dtype": "float32"})
    for key in ("revision", "variant"):
        model["loading"].pop(key, None)
    for key, twin in {"vae": "vae", "preview_decoder": "preview"}.items():
        if key in model["loading"]:
            model["loading"][key] = twins[twin]
    if "loras" in model["loading"]:
        model["loading"]["loras"] = {twins["lora"]: 1.0}
    for reward in model["rewards"].values():
        kind: Any = locate(reward["class_path"])
        if "model" in signature(kind).parameters:
            reward["init_args"] = {"model": twins["clip"]}
        if reward["class_path"] == "rewards.AestheticScore":
            reward["init_args"]["head"] = twins["head.safetensors"]
    return settings


def save(settings: dict, folder: Path) -> Path:
    path = folder / "twin.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path
