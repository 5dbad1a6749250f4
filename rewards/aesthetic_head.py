"""The file of the aesthetic predictor's MLP: found, checked and read."""

from __future__ import annotations

import hashlib
import pickle
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor, nn

from rewards.clip_loading import require_finite

_WIDTHS = (1024, 128, 64, 16, 1)
_DROPOUTS = (0.2, 0.2, 0.1)


def load_head(head: str, width: int, sha256: str | None = None, revision: str | None = None) -> nn.Module:
    """Load the MLP.

    Args:
        head: Local file, or "organisation/repository/file" on the hub.
        width: Length of the embedding that it must take.
        sha256: Checksum of the file, required for pickles.
        revision: Commit, tag or branch on the hub.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the checksum is missing or wrong, or if the file holds something else.
    """
    file = _find(head, revision)
    if file.suffix not in (".safetensors", ".pth"):
        raise ValueError(f"head is {head}: give a .safetensors file, or the official .pth with its sha256.")
    if sha256 is None and file.suffix == ".pth":
        raise ValueError(
            f"{head} is a pickle, and rewards open none without a checksum: pass as sha256 what sha256sum prints for a "
            "copy that you trust, or give a .safetensors file."
        )
    content = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and sha256.lower() != found:
        raise ValueError(f"{head} has SHA-256 {found}, not {sha256}: get the file anew, or correct sha256.")
    layers = _layers(width)
    _fill(layers, _read(content, file.suffix, head), head)
    return layers


def _find(head: str, revision: str | None) -> Path:
    file = Path(head).expanduser()
    if file.is_file():
        if revision is not None:
            raise ValueError(f"head_revision is {revision!r}, but {head} is a file on this machine: leave it out.")
        return file
    if head.startswith((".", "~", "/")) or head.count("/") < 2:
        raise _not_found(head, "there is no such file")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    organisation, repository, name = head.split("/", 2)
    try:
        return Path(hf_hub_download(f"{organisation}/{repository}", name, revision=revision))
    except (OSError, HFValidationError) as error:
        raise _not_found(head, str(error).strip().splitlines()[0].rstrip(".:")) from None


def _not_found(head: str, reason: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"no aesthetic head {head!r} ({reason}): "
        "give a local .safetensors or .pth file, or organisation/repository/file on the hub."
    )


def _read(content: bytes, suffix: str, head: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        weights = load(content) if suffix == ".safetensors" else torch.load(BytesIO(content), "cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{head} is no {suffix} file of tensors ({type(error).__name__}): get it anew.") from None
    if not isinstance(weights, dict) or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise ValueError(f"{head} holds no dictionary of tensors: save the state_dict() of the MLP alone.")
    return weights


def _layers(width: int) -> nn.Module:
    """An MLP whose ``state_dict`` has the official keys; it is linear, and its dropouts, idle here, count as layers."""
    layers: list[nn.Module] = []
    for index, (ins, outs) in enumerate(zip((width, *_WIDTHS), _WIDTHS, strict=False)):
        layers += [nn.Linear(ins, outs), *(nn.Dropout(rate) for rate in _DROPOUTS[index : index + 1])]
    return nn.Sequential(*layers)


def _fill(layers: nn.Module, weights: dict[str, Tensor], head: str) -> None:
    wanted = {f"layers.{key}": tuple(weight.shape) for key, weight in layers.state_dict().items()}
    if odd := sorted(wanted.keys() ^ weights.keys()):
        fault = "lacks" if odd[0] in wanted else "has the unknown key"
        raise ValueError(f"{head} {fault} {odd[0]}: its keys must be those of the official head, {', '.join(wanted)}.")
    for key, shape in wanted.items():
        if weights[key].shape != shape:
            raise ValueError(
                f"{head} has {key} of shape {tuple(weights[key].shape)}, want {shape}: "
                "take the head that was trained on this CLIP model's embeddings, and the model it was trained on."
            )
    layers.load_state_dict({key.removeprefix("layers."): weight for key, weight in weights.items()})
    require_finite(layers, head)
