"""Time of an earlier run, for the plan of one that is like it."""

from __future__ import annotations

import torch

from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.runs.changes import changes
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.identity import described, read_identity
from srsoup_lightning.runs.rows import total

SPEED = ("weights", "parts", "loading")  # facts about a model that its speed depends on


def seconds_like(run: RunDirectory, module: SRSoupModule, device: torch.device) -> float:
    """Seconds that a run took for a network evaluation, all else in it.

    Args:
        run: Directory of the run.
        module: Module of the run to come. It must have the same pipeline, with the same options of loading.
        device: Its device. It must be of the same type.

    Raises:
        FileNotFoundError: There are no soups in the run, nothing tells which model made them, or the pipeline of the
            module is not there.
        ValueError: The run had another pipeline, size or device.
    """
    spent = total(run.cost_rows())
    if not spent.nfe:
        raise FileNotFoundError(f"no soups in {str(run.root)!r}: give the directory of a run that made some")
    identity = read_identity(run.identity)
    if identity is None:
        raise FileNotFoundError(f"no {run.identity.name} in {str(run.root)!r}: nothing tells which model it timed")
    before = {name: identity.facts["model"].get(name) for name in SPEED}
    now = described(module.describe_model())
    devices = {str(part["device"]) for part in identity.parts}
    differences = changes(
        before | {"device": ", ".join(sorted(devices))},
        {name: now.get(name) for name in SPEED} | {"device": device.type},
    )
    if differences:
        raise ValueError(
            f"{run.root} is not like this run ({differences}): give a run with the same pipeline, size and device, or "
            "seconds_per_evaluation"
        )
    return spent.seconds / spent.nfe
