"""Searches that a run keeps: states and search gradients of its trajectories, as data for a fine-tuning.

::

    <root>/searches/<prompt slug>-<hash>/<seed>.safetensors
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from rewards.checks import first_line
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.files import write_atomically
from srsoup_lightning.runs.naming import prompt_slug

FACTS = "search"  # key of the facts in the header


class KeptSearch(NamedTuple):
    """Searched steps of a soup's P trajectories, K of them each.

    Attributes:
        prompt: Prompt.
        seed: Seed.
        rewards: Names of the M rewards.
        steps: Indices of the K steps.
        process: Settings of the denoising process, by name.
        sigmas: Standard deviation of each step.
        states: Latents before each step, (P, K, C, H, W).
        means: Means of the steps, (P, K, C, H, W).
        gradients: Search gradients of the rewards, (P, K, M, C, H, W); 0 where nobody was asked.
        weights: Preference of each trajectory, (P, M).
    """

    prompt: str
    seed: int
    rewards: tuple[str, ...]
    steps: tuple[int, ...]
    process: dict[str, float]
    sigmas: tuple[float, ...]
    states: Tensor
    means: Tensor
    gradients: Tensor
    weights: Tensor


TENSORS = ("states", "means", "gradients", "weights")


def write_search(run: RunDirectory, search: KeptSearch) -> None:
    """Write the search of a soup atomically.

    Raises:
        OSError: The disk is full, or the folder is not writable.
    """
    from safetensors.torch import save

    fields = search._asdict()
    tensors = {name: fields.pop(name).cpu().contiguous() for name in TENSORS}
    path = _folder(run) / prompt_slug(search.prompt) / f"{search.seed}.safetensors"
    write_atomically(path, save(tensors, {FACTS: json.dumps(fields)}))


def read_searches(root: str | Path) -> Iterator[KeptSearch]:
    """Yield the searches that a run has kept, in the order of their files.

    Raises:
        FileNotFoundError: It has kept none.
        ValueError: A file is damaged.
    """
    files = sorted(_folder(RunDirectory(root)).rglob("*.safetensors"))
    if not files:
        raise FileNotFoundError(
            f"{root} has kept no searches: make it by srsoup predict with --trainer.callbacks+=SearchKeeper"
        )
    for path in files:
        yield _read(path)


def _folder(run: RunDirectory) -> Path:
    return run.root / "searches"


def _read(path: Path) -> KeptSearch:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()[FACTS])
            tensors = {name: file.get_tensor(name) for name in TENSORS}
        for name in ("rewards", "steps", "sigmas"):
            facts[name] = tuple(facts[name])
        return KeptSearch(**facts, **tensors)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({first_line(error)}): delete it, or make the run anew") from None
