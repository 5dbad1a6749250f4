"""The adapter that a fine-tuning leaves in its run directory, and the facts about its training.

::

    <root>/adapter/pytorch_lora_weights.safetensors    weights and metadata, as diffusers loads them
    <root>/adapter/adapter.json                        base, objective, preference, rounds, costs of the training
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from torch import Tensor

from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.runs.files import write_atomically

WEIGHTS, FACTS = "pytorch_lora_weights.safetensors", "adapter.json"


@dataclass(frozen=True, kw_only=True)
class AdapterFacts:
    """Origin of an adapter.

    Attributes:
        base: Name of the pipeline that it was trained on.
        objective: Name of the objective.
        preference: Weight of each reward that it was trained for.
        rounds: Number of rounds.
        costs: Costs of the training.
    """

    base: str
    objective: str
    preference: dict[str, float]
    rounds: int
    costs: Ledger = field(default_factory=Ledger)


def write_adapter(
    folder: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str], facts: AdapterFacts
) -> None:
    """Write an adapter. Each file is written atomically.

    Args:
        folder: Folder of the adapter. It is made if there is none.
        weights: Weights by the keys that diffusers reads.
        metadata: Metadata of the safetensors file.
        facts: Origin of the adapter.

    Raises:
        OSError: The disk is full, or the folder is not writable.
    """
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    write_atomically(folder / WEIGHTS, _with_sorted_header(save(tensors, dict(metadata))))
    write_atomically(folder / FACTS, json.dumps(asdict(facts), indent=2).encode() + b"\n")


def _with_sorted_header(content: bytes) -> bytes:
    """Sort the header of a safetensors file, whose metadata otherwise are in another order each time.

    The header is JSON after its length in 8 bytes, padded to a multiple of 8 by spaces.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def read_facts(folder: Path) -> AdapterFacts | None:
    """Return the origin of the adapter in a folder, or None if the folder does not say it.

    Raises:
        ValueError: The file that says it is damaged.
    """
    path = folder / FACTS
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = {option.name: found[option.name] for option in fields(AdapterFacts)}
        return AdapterFacts(**known | {"costs": Ledger(**found["costs"])})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and the costs of the training are unknown") from None
