"""Origin of a module's model: a name that is loaded when it is needed, a loaded pipeline, or a Backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from rewards.checks import require_no_url
from srsoup_lightning.adapters import Adapters
from srsoup_lightning.diffusion.backbone import Backbone
from srsoup_lightning.diffusion.loading.fingerprint import loaded_model
from srsoup_lightning.diffusion.loading.given import (
    LoadedPipeline,
    active_loras,
    backbone_over,
    given_model,
    name_of,
)
from srsoup_lightning.diffusion.loading.options import Loading
from srsoup_lightning.diffusion.loading.pipeline import load_backbone
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone


@dataclass(frozen=True, eq=False)
class ModelSource:
    """Origin of a model.

    Attributes:
        name: Name, folder or hub id of its pipeline; of a Backbone or of a pipeline that tells none, its class.
        loras: Weight of each LoRA that it has, by folder, file or hub id; by the adapter's name for a given pipeline.
        base_steps: Number of the last denoising steps that the base model makes.
        load: Returns the model. A given one is returned as it is.
        describe: Returns facts that are equal where the model is.
        given: The model, if it is loaded already.
    """

    name: str
    loras: Mapping[str, float]
    base_steps: int
    load: Callable[[], Backbone]
    describe: Callable[[], Mapping[str, object]]
    given: Backbone | None = None

    def require_trainable(self, adapters: Adapters | None = None) -> None:
        """Check that a fit can train a LoRA of the model.

        Raises:
            ValueError: The base model makes the last steps, or a LoRA is active that a new one would switch off.
        """
        if adapters is not None:
            raise ValueError(
                f"adapters are {type(adapters).__name__}, and a fit would switch them off: leave them out, or start "
                "from one by training.lora.start"
            )
        if self.base_steps:
            raise ValueError(f"base_steps is {self.base_steps}, and a fit can't train these steps: leave it out")
        if self.given is not None and self.loras:
            raise ValueError(
                f"LoRA {next(iter(self.loras))!r} is active in the pipeline, and a fit would switch it off: merge it "
                "by pipe.fuse_lora() and pipe.unload_lora_weights(), or start from it by training.lora.start"
            )


def model_source(
    pipeline: str | Backbone | LoadedPipeline, loading: Loading = Loading(), adapters: Adapters | None = None
) -> ModelSource:
    """Return the origin of a model. A name is not looked up yet.

    Args:
        pipeline: Name of a builtin checkpoint, local folder or hub id; a loaded pipeline of diffusers; or a Backbone.
        loading: Options of loading. A loaded pipeline takes those alone that load and change nothing, and a Backbone
            takes none.
        adapters: Adapters by which predictions depend on a preference. A model that is loaded takes none.

    Raises:
        TypeError, ValueError: `pipeline` is a URL or another object, or the options do not fit it; see also
            :func:`~srsoup_lightning.diffusion.loading.given.backbone_over`.
    """
    if isinstance(pipeline, str):
        require_no_url("pipeline", pipeline)
        return _named(pipeline, loading, adapters)
    if isinstance(pipeline, Backbone):
        if loading != Loading() or adapters is not None:
            raise ValueError("this Backbone is loaded already: leave out `loading` and `adapters`")
        return _given(pipeline, type(pipeline).__name__)
    if adapters is not None:
        raise ValueError("adapters would change the pipeline, which is loaded already: give its folder or hub id")
    backbone = backbone_over(pipeline, loading)
    backbone.loras = active_loras(pipeline)
    return _given(backbone, name_of(pipeline))


def _named(pipeline: str, loading: Loading, adapters: Adapters | None) -> ModelSource:
    return ModelSource(
        name=pipeline,
        loras={**loading.loras, **dict.fromkeys(adapters.sources if adapters else (), 1.0)},
        base_steps=loading.base_steps,
        load=partial(load_backbone, pipeline, loading, adapters),
        describe=partial(loaded_model, pipeline, loading, adapters),
    )


def _given(backbone: Backbone, name: str) -> ModelSource:
    describe = partial(given_model, backbone) if isinstance(backbone, PipelineBackbone) else backbone.description
    return ModelSource(name, dict(backbone.loras), backbone.base_steps, partial(_same, backbone), describe, backbone)


def _same(backbone: Backbone) -> Backbone:
    return backbone
