"""Options of loading a pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch

from rewards.checks import require_choice, require_no_url
from srsoup_lightning.diffusion.flow import FlowTransition
from srsoup_lightning.diffusion.pipeline_backbone import Offload

Precision = Literal["float32", "bfloat16", "float16"]
OF_LOADED = {"of_loaded": True}
DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in get_args(Precision)}


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How a pipeline is loaded and run. Weights are named by a local folder or a hub id, and are safetensors only.

    Hub ids of components and LoRAs may have a revision: user/name@revision.

    The metadata of a field holds ``operational: True`` where the option does not change the pictures of a run, and
    ``of_loaded: True`` where it applies to a pipeline that is given loaded.

    Args:
        dtype: Precision of the networks: "float32", "bfloat16" or "float16". Transitions are always float32.
        height: Height in pixels; None takes the model's own.
        width: Width in pixels; None takes the model's own.
        revision: Commit, tag or branch of the pipeline on the hub; None takes its main branch.
        variant: Variant of the weights, such as "fp16", which is half the download; None takes the plain ones.
        omit: Components that are not loaded. ["text_encoder_3", "tokenizer_3"] loads Stable Diffusion 3 without its T5.
        network: Other weights of the denoising network, such as those of a fine-tuned one.
        vae: Another autoencoder of the same latents, such as madebyollin/sdxl-vae-fp16-fix.
        preview_decoder: An ``AutoencoderTiny`` that decodes the images that only rewards see, such as
            madebyollin/taesd for Stable Diffusion 1.x and 2.x, or the builtin tiny-animals-preview. None takes the
            pipeline's own decoder.
        scheduler: Entries that replace those of the pipeline's ``scheduler_config.json``, also its ``_class_name``:
            {"_class_name": "LCMScheduler"} for a consistency LoRA, {"timestep_spacing": "trailing"} for Lightning's.
        loras: LoRAs in the format of diffusers or peft, each with its weight: folders, files, hub ids, or files of the
            hub as user/name@revision/file.safetensors. They are merged into the networks,
            unless there are `base_steps`.
        base_steps: Number of the last denoising steps that the base model makes, without the LoRAs, at least 0. This
            is a cure for LoRAs that are over-optimised for a reward: they keep their say in the layout, and the base
            model paints the details. The LoRAs stay apart from the network, which takes a little time, and may adapt
            the denoising network alone. Where a schedule has no more steps, the base model makes all of them.
        transition: How fresh noise enters a rectified flow: "ancestral", as DDIM's eta brings it into a diffusion;
            "sde", the stochastic differential equation of Flow-GRPO; or "cps", coefficient-preserving sampling.
            A diffusion takes "ancestral" alone.
        offload: Networks that wait in main memory: "none"; the "text_encoders", which are needed once a prompt; or
            "model", every network but the one that works. "model" saves most memory and costs a transfer at every
            change of the network.
        vae_tiling: Decode large images tile by tile.
        vae_slicing: Decode a batch image by image.
        attention: Attention backend of diffusers, such as "flash" or "sage", for a network that supports it, as
            FLUX.1's does; None takes the default.
        channels_last: Keep the memory of convolutions in the order that GPUs prefer.
        compile: Compile the repeated blocks of the network with ``torch.compile``. This takes a minute at the start;
            after it, the network is faster.
        trust_remote_code: Run code that comes with the pipeline, which its components' own classes are, and attention
            kernels from the hub (backends named "..._hub"). Such code can do all that you can. Read it first, and set
            ``revision``.
        backbone: Import path of your own :class:`~srsoup_lightning.diffusion.pipeline_backbone.PipelineBackbone` for
            the class of the pipeline.

    Raises:
        ValueError: An unknown dtype, transition or offload; a URL in place of a folder or hub id; attention kernels
            from the hub without trust in them; or `base_steps` below 0, without LoRAs, or together with `compile`.
    """

    dtype: Precision = "float32"
    height: int | None = field(default=None, metadata=OF_LOADED)
    width: int | None = field(default=None, metadata=OF_LOADED)
    revision: str | None = None
    variant: str | None = None
    omit: tuple[str, ...] = ()
    network: str | None = None
    vae: str | None = None
    preview_decoder: str | None = field(default=None, metadata=OF_LOADED)
    scheduler: dict[str, Any] = field(default_factory=dict)
    loras: dict[str, float] = field(default_factory=dict)
    base_steps: int = 0
    transition: FlowTransition = field(default="ancestral", metadata=OF_LOADED)
    offload: Offload = field(default="none", metadata={"operational": True})
    vae_tiling: bool = False
    vae_slicing: bool = False
    attention: str | None = None
    channels_last: bool = False
    compile: bool = False
    trust_remote_code: bool = False
    backbone: str | None = field(default=None, metadata=OF_LOADED)

    def __post_init__(self) -> None:
        require_choice("dtype", self.dtype, Precision)
        require_choice("transition", self.transition, FlowTransition)
        require_choice("offload", self.offload, Offload)
        for name in ("network", "vae", "preview_decoder"):
            require_no_url(name, getattr(self, name))
        for source in self.loras:
            require_no_url("a LoRA", source)
        if self.base_steps < 0:
            raise ValueError(f"base_steps is {self.base_steps}: give a number of steps, at least 0")
        if self.base_steps and not self.loras:
            raise ValueError(
                f"base_steps is {self.base_steps}, and there are no loras that the last steps could do without: give "
                "loras, or leave base_steps out"
            )
        if self.base_steps and self.compile:
            raise ValueError(
                f"base_steps is {self.base_steps}, and compile is on: a compiled network can't switch LoRAs off, leave "
                "out one of the two"
            )
        if self.attention is not None and self.attention.endswith("_hub") and not self.trust_remote_code:
            raise ValueError(
                f"attention {self.attention!r} downloads code from the hub and runs it: name a backend that is "
                "installed, or write loading.trust_remote_code: true"
            )
