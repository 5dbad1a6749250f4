"""The parts of a pipeline, each a folder of weights: found and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srsoup_lightning.diffusion.loading.silence import overheard, without_loading_bars

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin


def is_hub_id(source: str) -> bool:
    """Whether it has the form of one, user/name."""
    return source.count("/") == 1 and not source.startswith((".", "~", "/"))


def first_line(error: Exception | str) -> str:
    """What another library's error or warning says at first."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def part_names(index: Mapping[str, Any]) -> set[str]:
    """The parts that a pipeline's index names, whether or not there is anything in them."""
    return {name for name, value in index.items() if isinstance(value, list)}


def load_part(kind: str, name: str, source: str, dtype: torch.dtype) -> ModelMixin:
    """Load one part of a pipeline by itself.

    Args:
        kind: Its class in diffusers.
        name: What messages call it.
        source: Local folder or hub id.
        dtype: Precision.

    Raises:
        FileNotFoundError: No such part, or none in safetensors.
        ValueError: Something else than `kind`.
    """
    import diffusers

    missing = FileNotFoundError(f"no {name} {source!r}: give a folder or hub id of class {kind}, with safetensors")
    if not Path(source).is_dir() and not is_hub_id(source):
        raise missing
    try:
        with without_loading_bars(), overheard():
            part, report = getattr(diffusers, kind).from_pretrained(
                source, torch_dtype=dtype, use_safetensors=True, output_loading_info=True
            )
    except OSError as error:
        raise missing from error
    except Exception as error:  # by what it is instead, one of many kinds
        raise ValueError(f"{name} {source!r} is no {kind}: {first_line(error)}") from error
    if lacking := report["missing_keys"]:  # diffusers would draw them at random
        raise ValueError(f"{name} {source!r} is no {kind}: it lacks {len(lacking)} weights, such as {min(lacking)}")
    return part


def scheduler_class(present: str, entries: Mapping[str, Any]) -> type[SchedulerMixin]:
    """The class that a scheduler has with other entries in its config.

    Args:
        present: Its class in diffusers without them.
        entries: As in ``scheduler_config.json``; ``_class_name`` takes another of diffusers' classes.

    Raises:
        ValueError: A class that diffusers hasn't, or an entry that the class hasn't.
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
    """Put other entries into the config of a pipeline's scheduler.

    Raises:
        ValueError: See :func:`scheduler_class`; or a value that the class doesn't take.
    """
    kind = scheduler_class(type(pipeline.scheduler).__name__, entries)
    changed = {entry: value for entry, value in entries.items() if entry != "_class_name"}
    try:
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **changed)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(f"scheduler {dict(entries)} makes no {kind.__name__}: {first_line(error)}") from error
