"""Finding and loading a CLIP model: network, tokenizer and image preprocessing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import torch

from rewards.clip_pixels import CLIPPixels
from rewards.shipped import CLIP_MODELS

if TYPE_CHECKING:
    from transformers import CLIPModel, PreTrainedTokenizerBase


class LoadedCLIP(NamedTuple):
    """A CLIP model ready for use; the tokenizer truncates at the length that the text tower takes."""

    network: CLIPModel
    tokenizer: PreTrainedTokenizerBase
    pixels: CLIPPixels


def load_clip(model: str, dtype: torch.dtype) -> LoadedCLIP:
    """Load a CLIP model by the name of a shipped checkpoint, by local folder or by hub id, in this order.

    Args:
        model: The name, folder or id.
        dtype: Precision of the network.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If it is no CLIP model with complete safetensors weights.
        ModuleNotFoundError: If transformers is not installed.
    """
    source = _source(model)
    try:
        from transformers import AutoConfig, AutoTokenizer, CLIPModel
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError("CLIPScore needs transformers: pip install transformers") from missing
    try:
        with _no_loading_bar():
            config = AutoConfig.from_pretrained(source)
            if config.model_type != "clip":
                raise ValueError(f"{model} is a {config.model_type} model: CLIPScore takes CLIP models only.")
            loaded = CLIPModel.from_pretrained(source, dtype=dtype, use_safetensors=True, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(source)
        processor = CLIPImageProcessorPil.from_pretrained(source)
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise _not_found(model, reason) from None
    network, report = cast("tuple[CLIPModel, dict[str, set[str]]]", loaded)
    if report["missing_keys"]:
        raise ValueError(f"{model} lacks weights, {min(report['missing_keys'])} among them: export it anew.")
    longest = config.text_config.max_position_embeddings
    tokenizer.model_max_length = min(tokenizer.model_max_length, longest)
    return LoadedCLIP(network, tokenizer, CLIPPixels.of(processor))


def _source(model: str) -> str:
    """What transformers loads the model from: a folder if there is one, else a hub id."""
    folder = CLIP_MODELS.find(model) or Path(model).expanduser()
    if not folder.is_dir():
        if model.startswith((".", "~", "/")) or model.count("/") != 1:
            raise _not_found(model, "there is no such folder")
        return model
    if not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"{folder} holds no safetensors weights, and CLIPScore opens no pickles such as pytorch_model.bin: "
            f"convert them once, in an environment you trust, by CLIPModel.from_pretrained({str(folder)!r})"
            f".save_pretrained({str(folder)!r})."
        )
    return str(folder)


def _not_found(model: str, reason: str) -> FileNotFoundError:
    shipped = ", ".join(CLIP_MODELS.names()) or "none"
    return FileNotFoundError(
        f"no CLIP model {model!r} ({reason.rstrip('.')}): "
        f"give a hub id, a local folder or the name of a shipped checkpoint ({shipped})."
    )


@contextmanager
def _no_loading_bar() -> Iterator[None]:
    """Hide transformers' bar over weights read from disk, and leave the bar over a download."""
    from transformers.utils import logging

    before = logging.set_tqdm_hook(lambda bar, args, options: bar(*args, **{**options, "disable": True}))
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)
