"""Index of a pipeline, ``model_index.json``: its class, and the class of each of its components."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rewards.checks import first_line
from srsoup_lightning.builtin import PIPELINES
from srsoup_lightning.diffusion.loading.components import is_hub_id
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
    from diffusers import DiffusionPipeline

    if Path(source).is_dir():
        if not (Path(source) / FILE).is_file():
            raise _not_found(pipeline, f"no {FILE} in it")
        index = read_json(Path(source) / FILE)
        if not isinstance(index, dict):
            raise ValueError(f"{Path(source) / FILE} is damaged (no names and values in it): get it anew")
        return _checked(index, Path(source) / FILE)
    if Path(source).is_file():
        raise _not_found(pipeline, "a file: diffusers' from_single_file and save_pretrained make a folder of it")
    if not is_hub_id(source):
        raise _not_found(pipeline, "there is no such folder")
    try:
        index = dict(DiffusionPipeline.load_config(source, revision=revision))
    except (OSError, ValueError) as error:
        raise _not_found(pipeline, _reason_of_hub(error)) from error
    return _checked(index, f"{FILE} of {source}")


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


def _reason_of_hub(error: Exception) -> str:
    """Reason why the hub gave no access; the error of diffusers hides it."""
    from huggingface_hub import errors

    reasons = {  # the first that fits: some of these classes derive from others
        errors.GatedRepoError: "its licence must be accepted on its page, and `hf auth login` tell the hub who did",
        errors.RepositoryNotFoundError: "the hub has no such id, or shows it only after `hf auth login`",
        errors.RevisionNotFoundError: "the hub has no such revision of it",
        errors.LocalEntryNotFoundError: "the hub can't be reached, and the cache doesn't have it",
        errors.EntryNotFoundError: f"the hub has no {FILE} in it",
    }
    cause = error.__cause__ or error.__context__
    fitting = (reason for kind, reason in reasons.items() if isinstance(cause, kind))
    return next(fitting, f"the hub gives no access to it, {first_line(error)}")


def _not_found(pipeline: str, reason: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"no pipeline {pipeline!r} ({reason}): give a hub id, a local folder in diffusers' format or the name of a "
        f"builtin checkpoint ({', '.join(PIPELINES.names()) or 'none'})"
    )
