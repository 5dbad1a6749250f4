"""Index of a pipeline, ``model_index.json``: its class, and the class of each of its components."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rewards.checks import first_line
from rewards.networks.hub import not_downloaded
from srsoup_lightning.builtin import PIPELINES
from srsoup_lightning.diffusion.loading.hub import HubName, download_file
from srsoup_lightning.diffusion.loading.integrity import read_json

FILE = "model_index.json"
NEEDED = {"scheduler", "transformer", "unet", "vae"}  # no pipeline draws without those of these that it has


def read_index(source: str, pipeline: str, revision: str | None) -> dict[str, Any]:
    """Read the index of a pipeline.

    Args:
        source: Folder or hub id.
        pipeline: Name of the pipeline in messages.
        revision: Commit, tag or branch of a hub id; None takes its main branch.

    Raises:
        FileNotFoundError: No such pipeline, or the hub does not give access to it.
        ValueError: A damaged index.
    """
    file = Path(source) / FILE if Path(source).is_dir() else _downloaded(source, pipeline, revision)
    if not file.is_file():
        raise _not_found(pipeline, f"no {FILE} in it")
    index = read_json(file)
    if not isinstance(index, dict):
        raise ValueError(f"{file} is damaged (no names and values in it): get it anew")
    return _checked(index, file)


def _not_found(pipeline: str, reason: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"no pipeline {pipeline!r} ({reason}): give a hub id, a local folder in diffusers' format or the name of a "
        f"builtin checkpoint ({', '.join(PIPELINES.names()) or 'none'})"
    )


def _downloaded(source: str, pipeline: str, revision: str | None) -> Path:
    """Index of a pipeline of the hub."""
    if Path(source).is_file():
        raise _not_found(pipeline, "a file: diffusers' from_single_file and save_pretrained make a folder of it")
    name = HubName.of(source)
    if name is None:
        raise _not_found(pipeline, "there is no such folder")
    if name.revision is not None:
        raise _not_found(pipeline, "the revision of a pipeline has a key of its own, loading.revision")
    try:
        return download_file(name.id, FILE, revision)
    except (OSError, ValueError) as error:
        raise not_downloaded(f"pipeline {pipeline!r}", revision, error) or _not_found(
            pipeline, first_line(error)
        ) from error


def _checked(index: dict[str, Any], place: object) -> dict[str, Any]:
    """Return an index whose class is a name, and whose components are a library and a class each."""
    wrong: dict[str, object] = {
        name: value for name, value in index.items() if isinstance(value, list) and not _is_component(value)
    }
    for name in sorted(NEEDED & set(index)):
        if not isinstance(index[name], list) or None in index[name]:
            wrong[name] = index[name]
    if not isinstance(index.get("_class_name"), str):
        wrong["_class_name"] = index.get("_class_name")
    for name, value in wrong.items():
        raise ValueError(
            f"{place} is damaged ({str(value)[:60]} is no {name.strip('_').replace('_', ' ')}): get it anew"
        )
    return index


def _is_component(value: list[Any]) -> bool:
    return len(value) == 2 and all(part is None or isinstance(part, str) for part in value)
