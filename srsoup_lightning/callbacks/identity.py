"""Identity of the run of a module: written to its directory, and compared where the run goes on."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import lightning as L
import torch

from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.runs.changes import changes
from srsoup_lightning.runs.directory import RunDirectory, preference_weights
from srsoup_lightning.runs.identity import RunIdentity, circumstances, described, read_identity

logger = logging.getLogger(__name__)
WAY_OUT = "give another --trainer.default_root_dir, or --writer.overwrite true to replace it"


def begin(run: RunDirectory, trainer: L.Trainer, module: SRSoupModule, begun: bool) -> RunIdentity:
    """Write the identity of the run that starts in a directory, or goes on there, and return it.

    Args:
        run: Directory.
        trainer: Trainer of the run.
        module: Module of the run.
        begun: Whether the directory holds results of a run.

    Raises:
        FileExistsError: The directory holds results of another run, or of an unknown one.
        FileNotFoundError: There is no such pipeline.
        ValueError: run.json or the pipeline is damaged.
    """
    before = read_identity(run.identity) if begun else None
    if begun and before is None:
        raise FileExistsError(
            f"{run.root} holds results without {run.identity.name}, so nothing tells which run made them: {WAY_OUT}"
        )
    facts = _facts(trainer, module)
    if before is not None:
        if changed := changes(before.facts, facts):
            raise FileExistsError(f"{run.root} holds another run ({changed}): change it back, or {WAY_OUT}")
        pin_threads(before)
    part = circumstances(trainer.strategy.root_device)
    if before is None:
        identity = RunIdentity(facts=facts, parts=(part,), max_batch=module.max_batch)
    elif changed := changes(before.parts[-1], part):
        logger.warning("%s goes on, and last bits of its pictures may differ: %s", run.root, changed)
        identity = replace(before, parts=(*before.parts, part))
    else:
        identity = before
    identity.write(run.identity)
    return identity


def join(identity: RunIdentity, run: RunDirectory, module: SRSoupModule) -> None:
    """Let this process work as the run does: with its number of threads and its size of batches.

    Args:
        identity: Identity of the run.
        run: Directory, where the size of the batches is written when it is chosen.
        module: Module of the run.
    """
    pin_threads(identity)
    if module.max_batch is None:
        module.max_batch = identity.max_batch
    module.max_batch_callbacks.append(lambda size: replace(identity, max_batch=size).write(run.identity))


def pin_threads(identity: RunIdentity) -> None:
    """Compute with as many threads as the first part of the run, because the last bits on a CPU depend on them."""
    threads = identity.parts[0].get("threads")
    if threads is not None and threads != torch.get_num_threads():
        logger.info("%d threads instead of %d, as in the first part of the run", threads, torch.get_num_threads())
        torch.set_num_threads(threads)


def _facts(trainer: L.Trainer, module: SRSoupModule) -> dict[str, Any]:
    points = module.preferences
    weights = [preference_weights(points.rewards, row) for row in points.weights.tolist()]
    facts = {
        "model": module.describe_model(),
        "negative_prompt": module.negative_prompt,
        "sampler": module.sampler,
        "rewards": module.oracle.rewards,
        "preferences": dict(zip(points.names, weights, strict=True)),
        "oracle": module.oracle.policy,
        "soup_limits": module.soup_limits,
        "training": module.tuning,
        "precision": str(trainer.precision),
    }
    return dict(described(facts))
