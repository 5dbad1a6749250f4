"""A pipeline's index, ``model_index.json``: its class, and the class of each of its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from srsoup_lightning.builtin import PIPELINES
from srsoup_lightning.diffusion.loading.components import first_line, is_hub_id
from srsoup_lightning.diffusion.loading.integrity import read_json

FILE = "model_index.json"


def read_index(source: str, pipeline: str, revision: str | None) -> dict[str, Any]:
    """Read the index.

    Args:
        source: Folder or hub id.
        pipeline: What messages call it.
        revision: Which commit, tag or branch of a hub id; None takes its main one.

    Raises:
        FileNotFoundError: No such pipeline, or none that the hub hands out.
        ValueError: A damaged index.
    """
    from diffusers import DiffusionPipeline

    if Path(source).is_dir():
        if not (Path(source) / FILE).is_file():
            raise _not_found(pipeline, f"no {FILE} in it")
        index = read_json(Path(source) / FILE)
        if not isinstance(index, dict):
            raise ValueError(f"{Path(source) / FILE} is damaged (no names and values in it): get it anew")
        return index
    if Path(source).is_file():
        raise _not_found(pipeline, "a file: diffusers' from_single_file and save_pretrained make a folder of it")
    if not is_hub_id(source):
        raise _not_found(pipeline, "there is no such folder")
    try:
        return dict(DiffusionPipeline.load_config(source, revision=revision))
    except (OSError, ValueError) as error:
        raise _not_found(pipeline, _hub_s_reason(error)) from error


def _hub_s_reason(error: Exception) -> str:
    """Why the hub handed nothing out; diffusers' own error hides which of these it was."""
    from huggingface_hub import errors

    reasons = {  # the first that fits, for some derive from others
        errors.GatedRepoError: "its licence must be accepted on its page, and `hf auth login` tell the hub who did",
        errors.RepositoryNotFoundError: "the hub has no such id, or shows it only after `hf auth login`",
        errors.RevisionNotFoundError: "the hub has no such revision of it",
        errors.LocalEntryNotFoundError: "the hub can't be reached, and the cache doesn't have it",
        errors.EntryNotFoundError: f"the hub has no {FILE} in it",
    }
    cause = error.__cause__ or error.__context__
    fitting = (reason for kind, reason in reasons.items() if isinstance(cause, kind))
    return next(fitting, f"the hub doesn't hand it out, {first_line(error)}")


def _not_found(pipeline: str, reason: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"no pipeline {pipeline!r} ({reason}): give a hub id, a local folder in diffusers' format or the name of a "
        f"shipped checkpoint ({', '.join(PIPELINES.names()) or 'none'})"
    )
