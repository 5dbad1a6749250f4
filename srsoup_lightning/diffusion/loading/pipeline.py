"""From a hub id, a folder or a shipped name to a model that samplers can use; which pipeline gets which adapter."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from srsoup_lightning.builtin import PIPELINES, PREVIEW_DECODERS
from srsoup_lightning.diffusion.adapter import Adapter, Offload
from srsoup_lightning.diffusion.flow import FlowTransition
from srsoup_lightning.diffusion.loading.components import (
    change_scheduler,
    first_line,
    load_part,
    part_names,
    scheduler_class,
)
from srsoup_lightning.diffusion.loading.integrity import require_complete
from srsoup_lightning.diffusion.loading.loras import add_loras
from srsoup_lightning.diffusion.loading.model_index import read_index
from srsoup_lightning.diffusion.loading.performance import tune
from srsoup_lightning.diffusion.loading.silence import overheard, without_loading_bars, without_notices
from srsoup_lightning.diffusion.loading.trust import require_no_code, require_no_url, require_safetensors

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, ModelMixin

HERE = "srsoup_lightning.diffusion.families"
# diffusers' pipeline class -> import path of its adapter
ADAPTERS = {
    "StableDiffusionPipeline": f"{HERE}.stable_diffusion.StableDiffusion",
    "LatentConsistencyModelPipeline": f"{HERE}.stable_diffusion.StableDiffusion",
    "StableDiffusionXLPipeline": f"{HERE}.stable_diffusion_xl.StableDiffusionXL",
    "StableDiffusion3Pipeline": f"{HERE}.stable_diffusion_3.StableDiffusion3",
    "FluxPipeline": f"{HERE}.flux.Flux",
    "Flux2Pipeline": f"{HERE}.flux2.Flux2",
    "Flux2KleinPipeline": f"{HERE}.flux2.Flux2Klein",
    "QwenImagePipeline": f"{HERE}.qwen_image.QwenImage",
    "ZImagePipeline": f"{HERE}.z_image.ZImage",
    "SanaPipeline": f"{HERE}.sana.Sana",
    "PixArtAlphaPipeline": f"{HERE}.pixart.PixArt",
    "PixArtSigmaPipeline": f"{HERE}.pixart.PixArt",
}
Precision = Literal["float32", "bfloat16", "float16"]
DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in get_args(Precision)}
CENSORS = ("safety_checker",)  # parts that would replace pictures by black ones without a word to the rewards


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How a pipeline is loaded and run. What names weights is a local folder or a hub id, safetensors only.

    Args:
        dtype: Precision of the networks: "float32", "bfloat16" or "float16"; transitions are float32 always.
        height: Pixels; None takes the model's own.
        width: Pixels; None takes the model's own.
        revision: Which commit, tag or branch of a hub id; None takes its main one.
        variant: Which variant of the weights, such as "fp16", half the download; None takes the plain ones.
        omit: Parts not to load, such as ["text_encoder_3", "tokenizer_3"]: Stable Diffusion 3 without its T5.
        network: Other weights for the denoising network, such as a fine-tuned one's.
        vae: Another autoencoder of the same latents, such as madebyollin/sdxl-vae-fp16-fix.
        preview_decoder: An ``AutoencoderTiny`` that decodes what only rewards see, such as madebyollin/taesd for
            Stable Diffusion 1.x and 2.x, or tiny-animals-preview, which ships; None takes the pipeline's own decoder.
        scheduler: Entries that replace those of the pipeline's ``scheduler_config.json``, ``_class_name`` among them:
            {"_class_name": "LCMScheduler"} for a consistency LoRA, {"timestep_spacing": "trailing"} for Lightning's.
        loras: LoRAs in diffusers' or peft's format, each to its weight; they are merged into the networks.
        transition: How fresh noise comes into a rectified flow: "ancestral", as DDIM's eta brings it into a diffusion;
            "sde", the stochastic differential equation of Flow-GRPO; or "cps", coefficient-preserving sampling.
            Diffusion models have no use for it.
        offload: What waits in main memory: "none"; the "text_encoders", which are needed once a prompt; or "model",
            every network but the one at work, which saves most and costs a transfer at every change.
        vae_tiling: Decode large pictures tile by tile.
        vae_slicing: Decode a batch picture by picture.
        attention: diffusers' attention backend, such as "flash" or "sage", of a network that takes one, as FLUX.1's
            does; None takes the default.
        channels_last: Keep convolutions' memory in the order that GPUs prefer.
        compile: Compile the network's repeated blocks by ``torch.compile``: a minute at the start, faster after it.
        trust_remote_code: Run code that comes with the pipeline, its parts' own classes, and attention kernels from the
            hub (backends named "..._hub"). It can do all that you can: read it first, and pin ``revision``.
        adapter: Import path of your own :class:`~srsoup_lightning.diffusion.adapter.Adapter` for the pipeline's class.

    Raises:
        ValueError: An unknown dtype, transition or offload, a URL where a folder or hub id belongs, or attention
            kernels from the hub without trust in them.
    """

    dtype: Precision = "float32"
    height: int | None = None
    width: int | None = None
    revision: str | None = None
    variant: str | None = None
    omit: tuple[str, ...] = ()
    network: str | None = None
    vae: str | None = None
    preview_decoder: str | None = None
    scheduler: dict[str, Any] = field(default_factory=dict)
    loras: dict[str, float] = field(default_factory=dict)
    transition: FlowTransition = "ancestral"
    offload: Offload = "none"
    vae_tiling: bool = False
    vae_slicing: bool = False
    attention: str | None = None
    channels_last: bool = False
    compile: bool = False
    trust_remote_code: bool = False
    adapter: str | None = None

    def __post_init__(self) -> None:
        for name, choices in (("dtype", Precision), ("transition", FlowTransition), ("offload", Offload)):
            value = getattr(self, name)
            if value not in get_args(choices):
                raise ValueError(f"{name} {value!r} is unknown: choose from {', '.join(get_args(choices))}")
        for name in ("network", "vae", "preview_decoder"):
            require_no_url(name, getattr(self, name))
        for source in self.loras:
            require_no_url("a LoRA", source)
        if self.attention is not None and self.attention.endswith("_hub") and not self.trust_remote_code:
            raise ValueError(
                f"attention {self.attention!r} downloads code from the hub and runs it: name a backend that is "
                "installed, or write loading.trust_remote_code: true"
            )


def load_backbone(pipeline: str, loading: Loading = Loading()) -> Adapter:
    """Load a pipeline in diffusers' format; safetensors only, never a pickle.

    Args:
        pipeline: The name of a shipped checkpoint, a local folder or a hub id, in this order.
        loading: How.

    Raises:
        FileNotFoundError: No such pipeline, one that lacks files, or no such weights among the options.
        ValueError: A damaged pipeline, a class without adapter, a pickle where safetensors are expected, code of the
            pipeline's own, a size that the model can't draw, a part or LoRA of another model, a preview decoder of
            other latents, or an option that the pipeline has no part for.
    """
    source = str(PIPELINES.find(pipeline) or pipeline)
    with without_notices():
        index = read_index(source, pipeline, loading.revision)
        kind = str(index.get("_class_name"))
        adapter = _adapter(pipeline, kind, loading.adapter)
        folder = Path(source) if Path(source).is_dir() else None
        _look_over(index, pipeline, folder, loading)
        parts = _other_parts(index, loading)
        preview_decoder = None
        if (preview := loading.preview_decoder) is not None:
            preview = str(PREVIEW_DECODERS.find(preview) or preview)
            preview_decoder = load_part("AutoencoderTiny", "preview decoder", preview, DTYPES[loading.dtype])
        if folder is not None:
            require_complete(folder, index, part_names(index) - set(parts))
        loaded = _load_pipeline(source, kind, index, parts, loading)
        if loading.scheduler:
            change_scheduler(loaded, loading.scheduler)
        add_loras(loaded, loading.loras)
        made = adapter(
            loaded,
            height=loading.height,
            width=loading.width,
            preview_decoder=preview_decoder,
            transition=loading.transition,
            offload=loading.offload,
        )
        tune(
            made.network,
            made.pipeline.vae,
            tiling=loading.vae_tiling,
            slicing=loading.vae_slicing,
            attention=loading.attention,
            channels_last=loading.channels_last,
            regional_compile=loading.compile,
        )
        return made


def _look_over(index: dict[str, Any], pipeline: str, folder: Path | None, loading: Loading) -> None:
    """Refuse what shouldn't be loaded, and a scheduler that the pipeline's can't become, before anything is."""
    if not loading.trust_remote_code:
        require_no_code(index, pipeline, folder)
    if folder is not None:
        require_safetensors(folder, part_names(index) - {*loading.omit, *CENSORS})
    if loading.scheduler:
        scheduler_class(index["scheduler"][1], loading.scheduler)


def _adapter(pipeline: str, kind: str, given: str | None) -> type[Adapter]:
    import diffusers

    if given is None and kind not in ADAPTERS:
        raise ValueError(
            f"pipeline {pipeline!r} is a {kind}, which has no adapter: use {', '.join(ADAPTERS)}, or write an adapter "
            "(docs/adding-a-model.md) and name it as loading.adapter"
        )
    if not hasattr(diffusers, kind):
        raise ValueError(
            f"pipeline {pipeline!r} is a {kind}, which diffusers {diffusers.__version__} doesn't have: update it"
        )
    module, _, name = (ADAPTERS[kind] if given is None else given).rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"loading.adapter {given!r} can't be imported ({error}): give package.module.Class") from error
    if not (isinstance(found, type) and issubclass(found, Adapter)):
        raise ValueError(f"loading.adapter {given!r} is no Adapter: derive it from {Adapter.__module__}.Adapter")
    return found


def _other_parts(index: dict[str, Any], loading: Loading) -> dict[str, ModelMixin | None]:
    """The parts that don't come from the pipeline: replaced, left out by the user, or empty in the folder itself."""
    unknown = sorted(set(loading.omit) - part_names(index))
    if unknown:
        raise ValueError(f"omit names {unknown[0]!r}: the pipeline's parts are {', '.join(sorted(part_names(index)))}")
    needed = sorted({"unet", "transformer", "vae"} & {*loading.omit})
    if needed:
        raise ValueError(f"omit names {needed[0]!r}, which no picture is drawn without: leave it out of the list")
    parts: dict[str, ModelMixin | None] = {
        name: None for name, value in index.items() if name in (*loading.omit, *CENSORS) or value == [None, None]
    }
    replaced = {"transformer" if "transformer" in index else "unet": loading.network, "vae": loading.vae}
    return parts | {
        name: load_part(index[name][1], name, source, DTYPES[loading.dtype])
        for name, source in replaced.items()
        if source is not None
    }


def _load_pipeline(
    source: str, kind: str, index: dict[str, Any], parts: dict[str, ModelMixin | None], loading: Loading
) -> DiffusionPipeline:
    import diffusers
    from safetensors import SafetensorError

    options = {
        "revision": loading.revision,
        "variant": loading.variant,
        "use_safetensors": True,
        "trust_remote_code": loading.trust_remote_code,
    }
    if any(name in index for name in CENSORS):
        options["requires_safety_checker"] = False
    with without_loading_bars(), overheard() as warnings:
        try:
            made = getattr(diffusers, kind).from_pretrained(source, dtype=DTYPES[loading.dtype], **options, **parts)
        except OSError as error:
            raise FileNotFoundError(
                f"no weights for pipeline {source!r} ({first_line(error)}): where all of them are of a variant, "
                "such as fp16, name it as loading.variant, and else get it anew"
            ) from error
        except (RuntimeError, SafetensorError, ValueError) as error:
            said = "; ".join(first_line(each) for each in (*warnings, error))  # of which part, a warning may say
            raise ValueError(f"pipeline {source!r} can't be loaded: {shorten(said, 300)}") from error
    if holes := [first_line(warning) for warning in warnings if "newly initialized" in warning]:  # at random
        raise ValueError(f"pipeline {source!r} lacks weights, get it anew: {shorten(holes[0], 300)}")
    return made
