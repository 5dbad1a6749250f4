"""Components of a pipeline, each in a folder of its own: their names, their loading, another scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

from rewards.checks import first_line
from rewards.networks.hub import not_downloaded
from srsoup_lightning.diffusion.loading.hub import component_folder
from srsoup_lightning.diffusion.loading.silence import collected_warnings

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin


def component_names(index: Mapping[str, Any]) -> set[str]:
    """Names of the components in a pipeline's index, also of empty ones."""
    return {name for name, value in index.items() if isinstance(value, list)}


def load_component(kind: str, name: str, source: str, dtype: torch.dtype) -> ModelMixin:
    """Load one component of a pipeline by itself.

    Args:
        kind: Name of its class in diffusers.
        name: Name of the component in messages.
        source: Local folder, or user/name[@revision] on the hub.
        dtype: Precision.

    Raises:
        FileNotFoundError: No such component, or none in safetensors.
        ValueError: A component of another class, or one that lacks weights.
    """
    import diffusers

    try:
        with collected_warnings():
            component, report = getattr(diffusers, kind).from_pretrained(
                component_folder(source), torch_dtype=dtype, use_safetensors=True, output_loading_info=True
            )
    except OSError as error:
        raise not_downloaded(f"{name} {source!r}", None, error) or FileNotFoundError(
            f"no {name} {source!r}: give a folder or hub id of class {kind}, with safetensors"
        ) from error
    except Exception as error:  # of many types, which depend on what the folder holds
        raise ValueError(f"{name} {source!r} is no {kind}: {first_line(error)}") from error
    if lacking := report["missing_keys"]:  # diffusers would initialise them at random
        raise ValueError(f"{name} {source!r} is no {kind}: it lacks {len(lacking)} weights, such as {min(lacking)}")
    return component


def scheduler_class(present: str, entries: Mapping[str, Any]) -> type[SchedulerMixin]:
    """Class of a scheduler after entries of its config are replaced.

    Args:
        present: Name of its class in diffusers before.
        entries: Entries as in ``scheduler_config.json``; ``_class_name`` names another class of diffusers.

    Raises:
        ValueError: A class that diffusers does not have, or an entry that the class does not take.
    """
    import diffusers

    name = entries.get("_class_name", present)
    kind = getattr(diffusers, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise ValueError(f"scheduler names the class {name!r}: give one of diffusers', such as LCMScheduler")
    known = [entry for entry in signature(kind).parameters if entry != "self"]
    for entry in entries:
        if entry not in ("_class_name", *known):
            raise ValueError(f"scheduler has no {entry!r}: the entries of a {name} are {', '.join(known)}")
    return kind


def change_scheduler(pipeline: DiffusionPipeline, entries: Mapping[str, Any]) -> None:
    """Replace entries in the config of a pipeline's scheduler.

    Raises:
        ValueError: See :func:`scheduler_class`; or a value that the class does not take.
    """
    kind = scheduler_class(type(pipeline.scheduler).__name__, entries)
    changed = {entry: value for entry, value in entries.items() if entry != "_class_name"}
    try:
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **changed)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(f"scheduler {dict(entries)} makes no {kind.__name__}: {first_line(error)}") from error
