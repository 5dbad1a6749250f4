"""Files of weights outside of transformers' format: found, checked and read."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from rewards.checks import first_line, require_no_url
from rewards.networks.hub import connection_errors, not_downloaded

_PICKLES = (".pth", ".pt")


def is_weight_file(name: str) -> bool:
    """Whether the name is that of a file of weights, and not of a folder or a hub id."""
    return name.endswith((".safetensors", *_PICKLES)) and not Path(name).expanduser().is_dir()


def read_weights(
    name: str, sha256: str | None = None, revision: str | None = None, within: str | None = None
) -> dict[str, Tensor]:
    """Read a dictionary of tensors.

    Args:
        name: Local file, or "organisation/repository/file" on the hub: .safetensors, or a pickle, .pth or .pt.
        sha256: Checksum of the file, required for pickles. Pickles are opened only for tensors.
        revision: Commit, tag or branch on the hub.
        within: Key under which the file may hold the dictionary, beside notes on the training.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the checksum is missing or wrong, if the file holds something else, or if a revision is given for
            a local file.
    """
    file = _find(name, revision)
    if file.suffix not in (".safetensors", *_PICKLES):
        raise ValueError(f"{name} is of no known format: give a .safetensors file, or the official one and its sha256.")
    if sha256 is None and file.suffix in _PICKLES:
        raise ValueError(
            f"{name} is a pickle, and rewards open no pickle without a checksum: pass as sha256 the output of "
            "sha256sum for a copy that you trust, or give a .safetensors file."
        )
    weights = _read(file, name, sha256)
    if within is not None and isinstance(weights, dict):
        weights = weights.get(within, weights)
    if not isinstance(weights, dict) or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise ValueError(f"{name} holds no dictionary of tensors: save the network's state_dict() alone.")
    return weights


def require_keys(weights: Mapping[str, Tensor], keys: Collection[str], name: str) -> list[Tensor]:
    """The weights of these keys.

    Raises:
        ValueError: If one is missing.
    """
    for key in keys:
        if key not in weights:
            raise ValueError(f"{name} lacks {key}: give the official file, or one with the same keys.")
    return [weights[key] for key in keys]


def require_shapes(weights: Mapping[str, Tensor], wanted: Mapping[str, torch.Size], name: str) -> None:
    """Check that the weights have the wanted keys and shapes. Other keys are ignored.

    Raises:
        ValueError: If one is missing or has another shape.
    """
    for (key, shape), weight in zip(wanted.items(), require_keys(weights, wanted, name), strict=True):
        if weight.shape != shape:
            raise ValueError(
                f"{name} has {key} of shape {tuple(weight.shape)}, want {tuple(shape)}: "
                "give weights that were trained for this network."
            )


def _find(name: str, revision: str | None) -> Path:
    file = Path(name).expanduser()
    if file.is_file():
        if revision is not None:
            raise ValueError(f"{name} is a file on this machine and has no revision {revision!r}: leave that out.")
        return file
    require_no_url("file of weights", name, "a local file or organisation/repository/file on the hub")
    if name.startswith((".", "~", "/")) or name.count("/") < 2:
        raise _not_found(name, "there is no such file")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    organisation, repository, path = name.split("/", 2)
    try:
        with connection_errors():
            return Path(hf_hub_download(f"{organisation}/{repository}", path, revision=revision))
    except (OSError, HFValidationError) as error:
        raise not_downloaded(f"file of weights {name!r}", revision, error) or _not_found(
            name, first_line(error)
        ) from None


def _not_found(name: str, reason: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"no file of weights {name!r} ({reason}): "
        "give a local .safetensors, .pth or .pt file, or organisation/repository/file on the hub."
    )


def _read(file: Path, name: str, sha256: str | None) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with file.open("rb") as content:
        if sha256 is not None:
            found = hashlib.file_digest(content, "sha256").hexdigest()
            if sha256.lower() != found:
                raise ValueError(f"{name} has SHA-256 {found}, not {sha256}: download it again, or correct sha256.")
            content.seek(0)
        try:
            return load_file(file) if file.suffix == ".safetensors" else torch.load(content, "cpu", weights_only=True)
        except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(
                f"{name} is no {file.suffix} file of tensors ({type(error).__name__}): download it again."
            ) from None
