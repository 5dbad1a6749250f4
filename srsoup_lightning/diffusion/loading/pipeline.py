"""Loading of pipelines: from a hub id, a folder or a builtin name to a backbone."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from rewards.checks import first_line
from rewards.networks.hub import not_downloaded
from srsoup_lightning.adapters import Adapters
from srsoup_lightning.builtin import PIPELINES, PREVIEW_DECODERS
from srsoup_lightning.diffusion.families import families
from srsoup_lightning.diffusion.loading.components import (
    change_scheduler,
    component_names,
    load_component,
    scheduler_class,
)
from srsoup_lightning.diffusion.loading.hub import download_pipeline
from srsoup_lightning.diffusion.loading.integrity import require_complete
from srsoup_lightning.diffusion.loading.loras import add_loras
from srsoup_lightning.diffusion.loading.model_index import read_index
from srsoup_lightning.diffusion.loading.options import DTYPES, Loading
from srsoup_lightning.diffusion.loading.performance import tune
from srsoup_lightning.diffusion.loading.resident import add_adapters
from srsoup_lightning.diffusion.loading.silence import collected_warnings, silence_libraries
from srsoup_lightning.diffusion.loading.trust import require_no_code, require_safetensors
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderTiny, DiffusionPipeline, ModelMixin

CENSORS = ("safety_checker",)  # components that replace pictures by black ones and do not tell the rewards
Components = dict[str, "ModelMixin | None"]


def load_backbone(pipeline: str, loading: Loading = Loading(), adapters: Adapters | None = None) -> PipelineBackbone:
    """Load a pipeline in the format of diffusers; safetensors only, never a pickle.

    Args:
        pipeline: The name of a builtin checkpoint, a local folder or a hub id; they are looked up in this order.
        loading: Options of loading.
        adapters: Adapters by which predictions depend on a preference.

    Raises:
        FileNotFoundError: No such pipeline, one that lacks files, or no such weights among the options.
        ValueError: A damaged pipeline, a class without a family, a pickle in place of safetensors, code of the
            pipeline's own, a size that the model can't draw, a component or LoRA of another model, a preview decoder
            of other latents, or an option that the pipeline has no component for.
    """
    if adapters is not None and loading.compile:
        raise ValueError(
            "adapters are given, and compile is on: a compiled network can't mix LoRAs by row, leave out one of the two"
        )
    source = str(PIPELINES.find(pipeline) or pipeline)
    with silence_libraries():
        index = read_index(source, pipeline, loading.revision)
        kind = str(index.get("_class_name"))
        family = _family(pipeline, kind, loading.backbone)
        _check_before_loading(index, pipeline, loading)
        local = Path(source) if Path(source).is_dir() else None
        if local is not None:
            _check_files(local, index, pipeline, loading)
        replaced = _replaced_components(index, loading)
        preview_decoder = load_preview_decoder(loading)
        folder = local or _downloaded(source, index, pipeline, replaced, loading)
        require_complete(folder, index, component_names(index) - set(replaced))
        loaded = _load_pipeline(folder, kind, index, replaced, loading)
        if loading.scheduler:
            change_scheduler(loaded, loading.scheduler)
        add_loras(loaded, loading.loras, merge=not loading.base_steps)
        backbone = family(
            loaded,
            height=loading.height,
            width=loading.width,
            preview_decoder=preview_decoder,
            transition=loading.transition,
            offload=loading.offload,
            base_steps=loading.base_steps,
        )
        backbone.loras = loading.loras
        tune(
            backbone.network,
            backbone.pipeline.vae,
            tiling=loading.vae_tiling,
            slicing=loading.vae_slicing,
            attention=loading.attention,
            channels_last=loading.channels_last,
            regional_compile=loading.compile,
        )
        if adapters is not None:
            add_adapters(backbone, adapters)
        return backbone


def _check_before_loading(index: dict[str, Any], pipeline: str, loading: Loading) -> None:
    """Refuse code and a scheduler that the pipeline's can't become, before anything is loaded."""
    if not loading.trust_remote_code:
        require_no_code(index, pipeline, None)
    if loading.scheduler:
        scheduler_class(index["scheduler"][1], loading.scheduler)


def _check_files(folder: Path, index: dict[str, Any], pipeline: str, loading: Loading) -> None:
    """Refuse code and pickles in the folder of a pipeline."""
    if not loading.trust_remote_code:
        require_no_code(index, pipeline, folder)
    require_safetensors(folder, component_names(index) - {*loading.omit, *CENSORS})


def _downloaded(source: str, index: dict[str, Any], pipeline: str, replaced: Components, loading: Loading) -> Path:
    """Folder of a pipeline of the hub, after its download and the checks of its files."""
    try:
        folder = download_pipeline(source, loading, replaced)
    except (OSError, ValueError) as error:
        raise not_downloaded(f"pipeline {pipeline!r}", loading.revision, error) or ValueError(
            f"pipeline {pipeline!r} can't be downloaded: {first_line(error)}"
        ) from error
    _check_files(folder, index, pipeline, loading)
    return folder


def _family(pipeline: str, kind: str, path: str | None) -> type[PipelineBackbone]:
    """Backbone class of a pipeline class, or the user's own at an import path."""
    import diffusers

    if path is None and kind not in families():
        raise ValueError(
            f"pipeline {pipeline!r} is a {kind}, which has no backbone: use {', '.join(families())}, or write a "
            "backbone (docs/adding-a-model.md) and name it as loading.backbone"
        )
    if not hasattr(diffusers, kind):
        raise ValueError(
            f"pipeline {pipeline!r} is a {kind}, which diffusers {diffusers.__version__} doesn't have: update it"
        )
    return families()[kind] if path is None else imported_backbone(path)


def imported_backbone(path: str) -> type[PipelineBackbone]:
    """Return the class of a user's own backbone.

    Raises:
        ValueError: It can't be imported, or is no PipelineBackbone.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"loading.backbone {path!r} can't be imported ({error}): give package.module.Class") from error
    if not (isinstance(found, type) and issubclass(found, PipelineBackbone)):
        base = f"{PipelineBackbone.__module__}.{PipelineBackbone.__name__}"
        raise ValueError(f"loading.backbone {path!r} is no PipelineBackbone: derive it from {base}")
    return found


def _replaced_components(index: dict[str, Any], loading: Loading) -> Components:
    """Components that are not loaded from the pipeline: replaced, left out, or empty in the pipeline itself."""
    names = component_names(index)
    if unknown := sorted(set(loading.omit) - names):
        raise ValueError(f"omit names {unknown[0]!r}: the pipeline's components are {', '.join(sorted(names))}")
    if needed := sorted({"unet", "transformer", "vae"} & {*loading.omit}):
        raise ValueError(f"omit names {needed[0]!r}, which no picture is drawn without: leave it out of the list")
    empty: Components = {
        name: None for name, value in index.items() if name in (*loading.omit, *CENSORS) or value == [None, None]
    }
    sources = {"transformer" if "transformer" in index else "unet": loading.network, "vae": loading.vae}
    return empty | {
        name: load_component(index[name][1], name, source, DTYPES[loading.dtype])
        for name, source in sources.items()
        if source is not None
    }


def load_preview_decoder(loading: Loading, dtype: torch.dtype | None = None) -> AutoencoderTiny | None:
    """Load the preview decoder that the options name, if they name one, in this precision or that of the options."""
    if loading.preview_decoder is None:
        return None
    source = str(PREVIEW_DECODERS.find(loading.preview_decoder) or loading.preview_decoder)
    return load_component("AutoencoderTiny", "preview decoder", source, dtype or DTYPES[loading.dtype])


def _load_pipeline(
    folder: Path, kind: str, index: dict[str, Any], replaced: Components, loading: Loading
) -> DiffusionPipeline:
    import diffusers
    from safetensors import SafetensorError

    options = {
        "variant": loading.variant,
        "use_safetensors": True,
        "trust_remote_code": loading.trust_remote_code,
    }
    if any(name in index for name in CENSORS):
        options["requires_safety_checker"] = False
    with collected_warnings() as warnings:
        try:
            made = getattr(diffusers, kind).from_pretrained(folder, dtype=DTYPES[loading.dtype], **options, **replaced)
        except OSError as error:
            raise FileNotFoundError(
                f"no weights for pipeline {str(folder)!r} ({first_line(error)}): where all of them are of a variant, "
                "such as fp16, name it as loading.variant, and else get it anew"
            ) from error
        except (RuntimeError, SafetensorError, ValueError) as error:
            reasons = "; ".join(first_line(each) for each in (*warnings, error))  # a warning may name the component
            raise ValueError(f"pipeline {str(folder)!r} can't be loaded: {shorten(reasons, 300)}") from error
    if holes := [first_line(warning) for warning in warnings if "newly initialized" in warning]:  # at random
        raise ValueError(f"pipeline {str(folder)!r} lacks weights, get it anew: {shorten(holes[0], 300)}")
    return made
