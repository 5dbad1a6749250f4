"""LoRAs that stay beside the network, so that each row of a batch can have its own mixture of them."""

from __future__ import annotations

import json
from functools import partial

import torch

from srsoup_lightning.adapters import Adapters
from srsoup_lightning.diffusion.loading.hub import LORA_WEIGHTS, lora_path
from srsoup_lightning.diffusion.loading.lora_files import METADATA, header_of, require_one_weight_file
from srsoup_lightning.diffusion.loading.loras import read_lora, require_network_alone
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from srsoup_lightning.diffusion.preference_input import PREFERENCE_INPUT, add_preference_input
from srsoup_lightning.diffusion.row_inputs import RowInputs


def add_adapters(backbone: PipelineBackbone, policy: Adapters) -> None:
    """Add the LoRAs of a policy to the denoising network, and let predictions depend on preferences by it.

    Args:
        backbone: Model.
        policy: Policy of the LoRAs.

    Raises:
        FileNotFoundError: No such LoRA.
        ValueError: A LoRA of another model, one that adapts another network too, or one that takes a preference where
            the policy gives it none, or the other way round.
    """
    network, inputs = backbone.network, RowInputs(len(policy.sources))
    if not hasattr(network, "load_lora_adapter"):
        raise ValueError(f"adapters are given, and a {type(network).__name__} takes none")
    names = {source: f"adapter_{number}" for number, source in enumerate(policy.sources)}
    load = partial(_load_conditioned, backbone, inputs) if policy.conditioned else None
    for source, name in names.items():
        read_lora(backbone.pipeline, source, name, load)
        require_network_alone(backbone, source, name)
    network.set_adapters(list(names.values()))
    network.requires_grad_(False)
    if policy.conditioned:
        part = getattr(network, PREFERENCE_INPUT)
        policy = policy.knowing(part.rewards, part.quantiles)
    backbone.adapt(policy, list(names.values()), inputs)


def _load_conditioned(backbone: PipelineBackbone, inputs: RowInputs, source: str, name: str) -> None:
    """Load a LoRA that takes a preference as its input, and the part of it that brings it in."""
    from safetensors.torch import load_file

    path = lora_path(source)
    require_one_weight_file(path)
    file = path / LORA_WEIGHTS if path.is_dir() else path
    header, weights, network = header_of(file), load_file(file), backbone.network
    if PREFERENCE_INPUT not in header:
        raise ValueError("it takes no preference as its input: give it as loading.loras, or in another of the policies")
    prefix = f"{backbone.network_name}.{PREFERENCE_INPUT}."
    own = {key.removeprefix(prefix): weights.pop(key) for key in list(weights) if key.startswith(prefix)}
    network.load_lora_adapter(
        weights, prefix=backbone.network_name, adapter_name=name, metadata=json.loads(header[METADATA])
    )
    facts = json.loads(header[PREFERENCE_INPUT])
    width = len(own["first.weight"]) if "first.weight" in own else 0
    part = add_preference_input(network, facts["kind"], facts["rewards"], inputs, width=width, seed=0)
    part.load_state_dict(own)
    part.quantiles = facts["quantiles"] and tuple(map(tuple, facts["quantiles"]))
    if not all(torch.isfinite(weight).all() for weight in own.values()):
        raise ValueError("weights that bring the preference in are not finite")
