"""Loading of transformers' models: configuration, network and preprocessing. Errors are one line."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rewards.checks import first_line, require_choice
from rewards.networks.hub import NO_FILE, hub_cause
from rewards.networks.silence import silence_transformers
from rewards.networks.source import Source
from rewards.networks.weight_file import require_shapes

Dtype = Literal["float32", "bfloat16", "float16", "float64"]


def load_config(model: Source, allowed: Collection[str] | None = None) -> Any:  # noqa: ANN401
    """Load a model's configuration.

    Args:
        model: Source of the model.
        allowed: The accepted model types; None for all.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If it is of another type, or unknown to transformers.
        ModuleNotFoundError: If transformers is not installed.
    """
    try:
        from transformers import AutoConfig
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError("rewards with networks need transformers: pip install transformers") from missing
    try:
        # transformers warns of SigLIP's configurations: they name tokens that are not in its vocabulary.
        with silence_transformers():
            config = model.load(AutoConfig)
    except OSError as error:
        raise model.not_found(error) from None
    except ValueError as error:
        raise ValueError(f"{model.name} is no model that this transformers knows ({first_line(error)}).") from None
    if allowed is not None and config.model_type not in allowed:
        raise ValueError(f"{model.name} is a {config.model_type} model: give one of type {' or '.join(allowed)}.")
    return config


def torch_dtype(dtype: str) -> torch.dtype:
    """The precision of that name.

    Raises:
        ValueError: If it is none of :data:`Dtype`.
    """
    require_choice("dtype", dtype, Dtype)
    return getattr(torch, dtype)


def load_network(kind: Any, model: Source, dtype: Dtype, config: object) -> Any:  # noqa: ANN401
    """Load a network of a transformers class from safetensors, with all weights present and finite.

    Args:
        kind: The class; it may be an ``Auto`` class.
        model: Source of the model.
        dtype: Precision of the network.
        config: Its configuration.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If its safetensors weights are missing, incomplete or not finite, or the dtype is unknown.
    """
    from safetensors import SafetensorError

    if model.folder is not None and not any(model.folder.glob("*.safetensors")):
        raise model.only_pickles()
    options = {"config": config, "dtype": torch_dtype(dtype), "use_safetensors": True, "output_loading_info": True}
    try:
        with silence_transformers():
            network, report = model.load(kind, **options)
    except OSError as error:
        pickled = "safetensors" in str(error) and hub_cause(error) in (None, NO_FILE)
        raise (model.only_pickles() if pickled else model.not_found(error)) from None
    except SafetensorError as error:
        raise ValueError(
            f"{model.name} has files named .safetensors that are of another format ({first_line(error)}): "
            "download it again."
        ) from None
    if report["missing_keys"]:
        raise ValueError(f"{model.name} lacks weights, {min(report['missing_keys'])} among them: export it again.")
    require_finite(network, model.name)
    return network


def network_of(
    kind: Any,  # noqa: ANN401
    config: object,
    weights: Mapping[str, Tensor],
    dtype: torch.dtype,
    name: str,
    **options: bool,
) -> Any:  # noqa: ANN401
    """Make a network of a transformers class from weights with its keys; other keys are ignored.

    Args:
        kind: The class.
        config: Its configuration.
        weights: Its weights, by transformers' keys.
        dtype: Precision of the network.
        name: Origin of the weights, for errors.
        **options: Further arguments of the class.

    Raises:
        ValueError: If weights are missing, of other shapes or not finite.
    """
    with torch.device("meta"):
        wanted = {key: weight.shape for key, weight in kind(config, **options).state_dict().items()}
    require_shapes(weights, wanted, name)
    fitting = {key: weights[key] for key in wanted}
    with silence_transformers():
        # Unlike load_state_dict it takes the tensors themselves, and makes no network of random weights first.
        network = kind.from_pretrained(None, config=config, state_dict=fitting, dtype=dtype, **options)
    require_finite(network, name)
    return network


def load_preprocessing(kind: Any, source: Source) -> Any:  # noqa: ANN401
    """Load a tokenizer or an image processor of a transformers class.

    Raises:
        FileNotFoundError: If there is none.
        ModuleNotFoundError: If it needs a package that is not installed.
    """
    try:
        with silence_transformers():
            return source.load(kind)
    except (OSError, ValueError) as error:
        raise source.no_preprocessing(error) from None
    except ImportError as error:
        needed = first_line(error).split(". ")[0]
        raise ModuleNotFoundError(f"{source.name} can't be read yet, {needed}: install that by pip.") from None


def require_finite(network: nn.Module, name: str) -> None:
    """Check that no weight is NaN or infinite.

    Raises:
        ValueError: If one is.
    """
    for key, weight in network.named_parameters():
        if not all(extreme.isfinite() for extreme in weight.detach().aminmax()):
            raise ValueError(
                f"{name} has weights that are NaN or infinite in {str(weight.dtype).removeprefix('torch.')}, {key} "
                "among them: download the file again, or choose dtype float32 if float16 is too narrow for them."
            )
