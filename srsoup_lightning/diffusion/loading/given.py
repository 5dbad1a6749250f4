"""Pipelines that the caller has loaded: their backbone, their LoRAs, and the facts that tell them apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Protocol, runtime_checkable

from torch import nn

from srsoup_lightning.diffusion.families import families
from srsoup_lightning.diffusion.loading.options import Loading
from srsoup_lightning.diffusion.loading.pipeline import imported_backbone, load_preview_decoder
from srsoup_lightning.diffusion.loading.silence import silence_libraries
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone


@runtime_checkable
class LoadedPipeline(Protocol):
    """A pipeline of diffusers that is loaded."""

    @property
    def components(self) -> Mapping[str, Any]:
        """Networks, tokenizers and scheduler by name."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Entries of its model_index.json."""


def backbone_over(pipeline: LoadedPipeline, loading: Loading = Loading()) -> PipelineBackbone:
    """Return the backbone over a pipeline that is loaded already.

    The backbone works with the networks of the pipeline itself, where they are and in their precision. They are set to
    eval mode, and their weights require no gradients afterwards. Nothing else of the pipeline changes. LoRAs that are
    active in it stay active.

    Args:
        pipeline: The pipeline. Its class, or one that it derives from, has a family here.
        loading: Options whose metadata say that they apply to a loaded pipeline. The others are refused.

    Raises:
        TypeError: The object is no pipeline of diffusers.
        ValueError: The class has no family, hooks of the pipeline move its networks between devices, an option loads or
            changes a pipeline, or an option does not fit the model.
    """
    _require_options(loading)
    family = _family(pipeline, loading.backbone)
    for name, network in _networks(pipeline):
        if moved := _moving_hook(network):
            raise ValueError(
                f"the pipeline's {name} has {moved}, which moves weights between devices: give a pipeline without it, "
                "or a folder or hub id and loading.offload"
            )
    with silence_libraries():
        return family(
            pipeline,
            height=loading.height,
            width=loading.width,
            transition=loading.transition,
            preview_decoder=load_preview_decoder(loading, pipeline.components["vae"].dtype),
        )


def name_of(pipeline: LoadedPipeline) -> str:
    """Return the folder or hub id that a pipeline was loaded from, or its class where it tells none."""
    return str(pipeline.config.get("_name_or_path") or type(pipeline).__name__)


def active_loras(pipeline: LoadedPipeline) -> dict[str, float]:
    """Return the weight of each LoRA that is active in a pipeline, by the name of its adapter.

    Where it differs between layers, it is the weight in the first one.
    """
    found: dict[str, float] = {}
    for _, layer in _adapted_layers(pipeline):
        for name in _active(layer):
            full = layer.lora_alpha[name] / layer.r[name]
            found.setdefault(name, layer.scaling[name] / full if full else 0.0)
    return found


def given_model(backbone: PipelineBackbone) -> dict[str, object]:
    """Facts about the model of a loaded pipeline: equal where the model is, in any process.

    They are those of :meth:`Backbone.description`, the pipeline's class and scheduler, the size of the pictures, the
    transition, and the weights of its LoRAs in every layer.
    """
    pipeline, digest = backbone.pipeline, hashlib.blake2b(digest_size=16)
    for name, layer in _adapted_layers(pipeline):
        digest.update(f"{name}\0{[(each, layer.scaling[each]) for each in _active(layer)]}\0".encode())
    config = {key: value for key, value in pipeline.scheduler.config.items() if not key.startswith("_")}
    return {
        **backbone.description(),
        "pipeline": type(pipeline).__name__,
        "scheduler": {"class": type(pipeline.scheduler).__name__, **config},
        "latents": list(backbone.latent_shape),
        "transition": backbone.transition,
        "lora_weights": digest.hexdigest(),
    }


def _family(pipeline: object, path: str | None) -> type[PipelineBackbone]:
    from diffusers import DiffusionPipeline

    kind = type(pipeline)
    if not isinstance(pipeline, DiffusionPipeline):
        raise TypeError(
            f"pipeline is a {kind.__name__}: give a pipeline of diffusers, a Backbone, or the name, folder or hub id "
            "of a pipeline"
        )
    if path is not None:
        return imported_backbone(path)
    known = families()
    for each in kind.__mro__:
        if each.__name__ in known:
            return known[each.__name__]
    raise ValueError(
        f"pipeline is a {kind.__name__}, which has no backbone: give one of {', '.join(known)}, or write a backbone "
        "(docs/adding-a-model.md) and name it as loading.backbone"
    )


def _require_options(loading: Loading) -> None:
    plain = Loading()
    for option in fields(Loading):
        given = getattr(loading, option.name)
        if given != getattr(plain, option.name) and not option.metadata.get("of_loaded"):
            raise ValueError(
                f"loading.{option.name} is {given!r}, and the pipeline is loaded already: change the pipeline itself "
                "before you give it here, or give its folder or hub id"
            )


def _networks(pipeline: LoadedPipeline) -> Iterator[tuple[str, nn.Module]]:
    return ((name, each) for name, each in pipeline.components.items() if isinstance(each, nn.Module))


def _moving_hook(network: nn.Module) -> str | None:
    """Name of a hook that moves the weights of a network; None without one."""
    for module in network.modules():
        if hasattr(module, "_hf_hook"):
            return type(module._hf_hook).__name__
        registry: Any = getattr(module, "_diffusers_hook", None)
        if registry is not None and registry.get_hook("group_offloading") is not None:
            return "group offloading"
    return None


def _adapted_layers(pipeline: LoadedPipeline) -> Iterator[tuple[str, Any]]:
    """Layers with a LoRA that acts and is not merged, by name."""
    from peft.tuners.lora import LoraLayer

    for part, network in _networks(pipeline):
        for name, layer in network.named_modules():
            if isinstance(layer, LoraLayer) and not layer.disable_adapters:
                yield f"{part}.{name}", layer


def _active(layer: Any) -> list[str]:  # noqa: ANN401 - a layer of peft
    return [name for name in layer.active_adapters if name in layer.scaling and name not in layer.merged_adapters]
