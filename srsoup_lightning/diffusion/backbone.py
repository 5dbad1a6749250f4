"""From a hub id, a folder or a shipped name to a model that samplers can use; which pipeline gets which adapter."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.shipped import PIPELINES

if TYPE_CHECKING:
    from diffusers import AutoencoderTiny, DiffusionPipeline

# diffusers' pipeline class -> module and class of its adapter
ADAPTERS = {
    "StableDiffusionPipeline": ("srsoup_lightning.diffusion.stable_diffusion", "StableDiffusion"),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Backbone(nn.Module, abc.ABC):
    """A text-to-image model; its networks are submodules, so a Trainer moves them to its device."""

    @abc.abstractmethod
    def bind(
        self, prompt: str, *, num_inference_steps: int, guidance_scale: float, eta: float, negative_prompt: str = ""
    ) -> Denoiser:
        """The denoising process of one prompt.

        Args:
            prompt: What to draw; words beyond the text encoder's length are dropped with a warning.
            num_inference_steps: The number T of denoising steps.
            guidance_scale: Classifier-free guidance; 1 turns it off.
            eta: Share of the noise that is drawn anew in each step, in [0, 1].
            negative_prompt: What guidance leads away from.

        Raises:
            ValueError: More steps than the model was trained on.
        """


def load_backbone(
    pipeline: str,
    *,
    dtype: str = "float32",
    height: int | None = None,
    width: int | None = None,
    preview_decoder: str | None = None,
) -> Backbone:
    """Load a pipeline in diffusers' format; safetensors only, never a pickle.

    Args:
        pipeline: The name of a shipped checkpoint, a local folder or a hub id, in this order.
        dtype: Precision of the networks: "float32", "bfloat16" or "float16"; transitions are float32 always.
        height: Pixels; None takes the model's own.
        width: Pixels; None takes the model's own.
        preview_decoder: Folder or hub id of an ``AutoencoderTiny`` that decodes what only rewards see, such as
            madebyollin/taesd for Stable Diffusion 1.x and 2.x; None takes the pipeline's own decoder.

    Raises:
        FileNotFoundError: No such pipeline or preview decoder.
        ValueError: A pipeline class without adapter, a pickle where safetensors are expected, an unknown dtype, a
            size that the model can't draw, or a preview decoder of other latents.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is unknown: choose from {', '.join(DTYPES)}")
    source = str(PIPELINES.find(pipeline) or pipeline)
    with _quiet():
        kind = _pipeline_class(source, pipeline)
        if kind not in ADAPTERS:
            raise ValueError(f"pipeline {pipeline!r} is a {kind}, which has no adapter yet: use {', '.join(ADAPTERS)}")
        if Path(source).is_dir():
            _require_safetensors(Path(source))
        module, name = ADAPTERS[kind]
        adapter = getattr(import_module(module), name)
        cheaper = None if preview_decoder is None else _load_preview_decoder(preview_decoder, DTYPES[dtype])
        loaded = _load_pipeline(source, kind, DTYPES[dtype])
        return adapter(loaded, height=height, width=width, preview_decoder=cheaper)


def _pipeline_class(source: str, pipeline: str) -> str:
    """The class that the pipeline's index names."""
    from diffusers import DiffusionPipeline

    folder = Path(source).is_dir()
    if not folder and (source.startswith((".", "~", "/")) or source.count("/") != 1):
        raise _not_found(pipeline, "there is no such folder")
    try:
        return str(DiffusionPipeline.load_config(source).get("_class_name"))
    except (OSError, ValueError) as error:
        raise _not_found(pipeline, "no model_index.json in it" if folder else "the hub has no such id") from error


def _not_found(pipeline: str, reason: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"no pipeline {pipeline!r} ({reason}): give a hub id, a local folder in diffusers' format or the name of a "
        f"shipped checkpoint ({', '.join(PIPELINES.names()) or 'none'})"
    )


def _require_safetensors(folder: Path) -> None:
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        pickles = sorted(path.name for path in part.iterdir() if path.suffix in {".bin", ".pt", ".pth", ".ckpt"})
        if pickles and not any(part.glob("*.safetensors")):
            raise ValueError(
                f"{part} holds {pickles[0]}, a pickle, and no safetensors: convert it once, in an environment you "
                "trust, with pipeline.save_pretrained(folder, safe_serialization=True)"
            )


def _load_pipeline(source: str, kind: str, dtype: torch.dtype) -> DiffusionPipeline:
    import diffusers

    pipeline_class = getattr(diffusers, kind)
    # A safety checker would replace pictures by black ones without a word to the rewards.
    unchecked = {"safety_checker": None, "requires_safety_checker": False}
    options = {name: value for name, value in unchecked.items() if name in signature(pipeline_class).parameters}
    with _no_loading_bars():
        return pipeline_class.from_pretrained(source, dtype=dtype, use_safetensors=True, **options)


def _load_preview_decoder(source: str, dtype: torch.dtype) -> AutoencoderTiny:
    from diffusers import AutoencoderTiny

    try:
        with _no_loading_bars():
            return AutoencoderTiny.from_pretrained(source, torch_dtype=dtype, use_safetensors=True)
    except OSError as error:
        raise FileNotFoundError(
            f"no preview decoder {source!r}: give a folder or hub id of an AutoencoderTiny with safetensors"
        ) from error


@contextmanager
def _no_loading_bars() -> Iterator[None]:
    """Hide the bars over weights read from disk, and leave those over a download."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    shown = diffusers_logging.is_progress_bar_enabled()
    hook = transformers_logging.set_tqdm_hook(lambda bar, args, options: bar(*args, **{**options, "disable": True}))
    diffusers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(hook)
        if shown:
            diffusers_logging.enable_progress_bar()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the notices of diffusers and transformers about slow image processors out of a user's terminal."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    # Their own functions: before its first use, a level set on a library's logger would be set back by it.
    libraries = (diffusers_logging, transformers_logging)
    levels = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
    try:
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)
