"""What is looked at before a pipeline is loaded: that its weights are no pickles and that it brings no code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from srsoup_lightning.diffusion.loading.components import part_names

LIBRARIES = ("diffusers", "transformers")  # whose classes parts may have


def require_no_url(name: str, source: str | None) -> None:
    """Check that what names a model is no URL, which could hold a token and would be written down with it.

    Args:
        name: What messages call it; they don't show the URL.
        source: Folder or hub id, if any.

    Raises:
        ValueError: If it is one.
    """
    if source is not None and "://" in source:
        raise ValueError(f"{name} is a URL: give a folder or a hub id, and a token by the environment's HF_TOKEN")


def require_no_code(index: Mapping[str, Any], pipeline: str, folder: Path | None) -> None:
    """Check that every part of a pipeline is of a class that diffusers or transformers has, none of its own.

    Args:
        index: The pipeline's index.
        pipeline: What messages call it.
        folder: Where it lies, or None for a hub id.

    Raises:
        ValueError: If a part would bring its own code, or have another module imported.
    """
    from diffusers import pipelines

    for name in sorted(part_names(index)):
        library = next(iter(index[name]), None)
        if library is None:
            continue
        file = f"{name}/{library}.py"
        known = library in LIBRARIES or hasattr(pipelines, str(library))
        if not known or (folder is not None and (folder / file).exists()):
            raise ValueError(
                f"pipeline {pipeline!r} has a {name} of its own code, {file}: read that code, and if you would run it "
                "as yours, write loading.trust_remote_code: true"
            )


def require_safetensors(folder: Path, parts: set[str]) -> None:
    """Check that no part of a pipeline's folder has its weights in a pickle alone, or in one by another name.

    Raises:
        ValueError: If one has.
    """
    from safetensors import SafetensorError, safe_open

    for part in sorted(folder / name for name in parts if (folder / name).is_dir()):
        pickles = sorted(path.name for path in part.iterdir() if path.suffix in {".bin", ".pt", ".pth", ".ckpt"})
        if pickles and not any(part.glob("*.safetensors")):
            raise ValueError(
                f"{part} holds {pickles[0]}, a pickle, and no safetensors: convert it once, in an environment you "
                "trust, with pipeline.save_pretrained(folder, safe_serialization=True)"
            )
        for file in sorted(part.glob("*.safetensors")):
            try:
                with safe_open(file, "pt"):  # reads the head alone
                    pass
            except SafetensorError:
                raise ValueError(f"{file} is no safetensors file, whatever its name says: get it anew") from None
