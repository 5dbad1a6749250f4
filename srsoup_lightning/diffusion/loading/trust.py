"""Checks of trust before a pipeline is loaded: its weights are no pickles, and it brings no code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from srsoup_lightning.diffusion.loading.components import component_names

LIBRARIES = ("diffusers", "transformers")  # a component may be of their classes


def require_no_code(index: Mapping[str, Any], pipeline: str, folder: Path | None) -> None:
    """Check that every component of a pipeline is of a class of diffusers or transformers, and none of its own.

    Args:
        index: Index of the pipeline.
        pipeline: Name of the pipeline in messages.
        folder: Folder of the pipeline, or None for a hub id.

    Raises:
        ValueError: A component brings its own code, or would have another module imported.
    """
    from diffusers import pipelines

    for name in sorted(component_names(index)):
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


def require_safetensors(folder: Path, components: set[str]) -> None:
    """Check that no component in a pipeline's folder has its weights in a pickle alone, or in one with another suffix.

    Raises:
        ValueError: A component has.
    """
    from safetensors import SafetensorError, safe_open

    for component in sorted(folder / name for name in components if (folder / name).is_dir()):
        pickles = sorted(path.name for path in component.iterdir() if path.suffix in {".bin", ".pt", ".pth", ".ckpt"})
        if pickles and not any(component.glob("*.safetensors")):
            raise ValueError(
                f"{component} holds {pickles[0]}, a pickle, and no safetensors: convert it once, in an environment you "
                "trust, with pipeline.save_pretrained(folder, safe_serialization=True)"
            )
        for file in sorted(component.glob("*.safetensors")):
            try:
                with safe_open(file, "pt"):  # reads the header alone
                    pass
            except SafetensorError:
                raise ValueError(f"{file} is no safetensors file, whatever its name says: get it anew") from None
