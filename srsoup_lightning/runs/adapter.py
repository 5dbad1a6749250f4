"""The adapter that a fine-tuning leaves in its run directory, and the facts about its training.

::

    <root>/adapter/pytorch_lora_weights.safetensors    weights and metadata, as diffusers loads them
    <root>/adapter/adapter.json                        base, objective, preference, rounds, costs of the trainings

A run that samples with LoRAs copies these facts, because a LoRA can be trained again afterwards::

    <root>/adapters.json                               source, weight and facts of each LoRA; facts null if not known
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from os.path import normpath
from pathlib import Path
from typing import Any

from torch import Tensor

from rewards.checks import read_text, refuse_constant
from srsoup_lightning.costs.ledger import Ledger, added
from srsoup_lightning.runs.files import write_atomically
from srsoup_lightning.runs.rows import ledger_from_json

WEIGHTS, FACTS = "pytorch_lora_weights.safetensors", "adapter.json"
DAMAGE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    OverflowError,
    RecursionError,
)  # raised by JSON of another content


@dataclass(frozen=True, kw_only=True)
class AdapterFacts:
    """Origin of an adapter.

    Attributes:
        base: Name of the pipeline that it was trained on.
        objective: Name of the objective.
        preference: Weight of each reward that it was trained for; the mean where the preference is an input.
        rounds: Number of rounds.
        costs: Costs of the training.
        conditioned: Whether the preference is an input of the adapter.
        earlier: Costs of the trainings of other adapters that this one began from or is a mean of, by adapter.
    """

    base: str
    objective: str
    preference: dict[str, float]
    rounds: int
    costs: Ledger = field(default_factory=Ledger)
    conditioned: bool = False
    earlier: dict[str, Ledger] = field(default_factory=dict)

    @property
    def total(self) -> Ledger:
        """Costs of all trainings that the adapter rests on."""
        return added([self.costs, *self.earlier.values()])

    def behind(self, source: str) -> dict[str, Ledger]:
        """Return the costs of all these trainings by adapter, for what rests on this one.

        Args:
            source: Folder, file or hub id of this adapter.
        """
        return {normpath(source): self.costs} | self.earlier


@dataclass(frozen=True, kw_only=True)
class UsedAdapter:
    """A LoRA that a run samples with.

    Attributes:
        source: Folder, file or hub id of the LoRA.
        weight: Its weight.
        facts: Its origin when the run began. None where it is not known, as for a LoRA of another tool.
    """

    source: str
    weight: float
    facts: AdapterFacts | None


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
        return _facts(_read_json(path))
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and the costs of the training are unknown") from None


def used_adapters(loras: Mapping[str, float]) -> tuple[UsedAdapter, ...]:
    """Return LoRAs with their origins, as the folders beside their weights tell them now.

    Args:
        loras: Weight of each LoRA, by its folder, file or hub id.

    Raises:
        ValueError: The file that tells the origin of one is damaged.
    """
    folders = {source: Path(source).parent if Path(source).name == WEIGHTS else Path(source) for source in loras}
    return tuple(
        UsedAdapter(source=source, weight=weight, facts=read_facts(folders[source])) for source, weight in loras.items()
    )


def write_used_adapters(path: Path, adapters: Sequence[UsedAdapter]) -> None:
    """Write the LoRAs of a run atomically. Without any, there is no file.

    Raises:
        OSError: The disk is full, or the folder is not writable.
    """
    if adapters:
        write_atomically(path, json.dumps([asdict(adapter) for adapter in adapters], indent=2).encode() + b"\n")
    else:
        path.unlink(missing_ok=True)


def read_used_adapters(path: Path) -> tuple[UsedAdapter, ...]:
    """Return the LoRAs of a run, from the file that :func:`write_used_adapters` wrote; none without a file.

    Raises:
        ValueError: The file is damaged.
    """
    if not path.is_file():
        return ()
    try:
        return tuple(
            UsedAdapter(
                source=str(found["source"]),
                weight=float(found["weight"]),
                facts=None if found["facts"] is None else _facts(found["facts"]),
            )
            for found in _read_json(path)
        )
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged ({error}): restore it, or make the run anew") from None


def _read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON
    return json.loads(read_text(path), parse_constant=refuse_constant)


def _facts(found: Mapping[str, Any]) -> AdapterFacts:
    return AdapterFacts(
        base=str(found["base"]),
        objective=str(found["objective"]),
        preference={name: float(weight) for name, weight in found["preference"].items()},
        rounds=int(found["rounds"]),
        costs=ledger_from_json(found["costs"], "the entry of its costs"),
        conditioned=bool(found.get("conditioned", False)),
        earlier={
            source: ledger_from_json(costs, f"the entry of the costs of {source}")
            for source, costs in found.get("earlier", {}).items()
        },
    )
