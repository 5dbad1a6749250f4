"""Rows of a run: one for each image, and one for the costs of each soup."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol, TypeVar

from torch import Tensor

from srsoup_lightning.costs.ledger import Ledger, added
from srsoup_lightning.runs.files import require_text

Row = TypeVar("Row")
Group = TypeVar("Group")
Key = tuple[str, int]  # of a soup: its prompt and its seed
PROMPT_ROW = {"prompt": str, "seed": int, "preference": dict, "image": str}
IMAGE_ROW = PROMPT_ROW | {"rewards": dict, "failed": list, "sha256": str, "run": str}
COST_ROW = {"prompt": str, "seed": int, "images": int, "run": str}
LEDGER = {option.name: type(getattr(Ledger(), option.name)) for option in fields(Ledger)}
KINDS = {
    str: "a text",
    int: "a whole number",
    float: "a finite number",
    dict: "an object of numbers",
    list: "a list of names",
}


class SoupRecord(Protocol):
    """Soup as a directory writes it; see :class:`~srsoup_lightning.results.soup.Soup` for its attributes."""

    prompt: str
    seed: int
    reward_names: tuple[str, ...]
    preference_names: tuple[str, ...]
    preferences: Tensor
    images: Tensor
    rewards: Tensor
    failed: Tensor
    ledger: Ledger


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """Row of samples.jsonl, or of a file of scored pictures: one image.

    Attributes:
        prompt: Prompt of the image.
        seed: Its seed. None where the row gives none.
        preference: Weights of the rewards that the image was made for. Empty where the row gives none.
        rewards: Scores by reward name, finite. Empty where the image is not scored yet.
        image: Path of the picture, relative to the run directory or to the folder of the file.
        failed: Names of the rewards that gave the image no score. The worst score of its soup stands in their place.
        sha256: Checksum of the picture's file, in hexadecimal digits. Empty where the row gives none.
        run: Id of the run that made the image; see :mod:`srsoup_lightning.runs.identity`. Empty where it gives none.
    """

    prompt: str
    seed: int | None = None
    preference: dict[str, float] = field(default_factory=dict)
    rewards: dict[str, float] = field(default_factory=dict)
    image: str
    failed: tuple[str, ...] = ()
    sha256: str = ""
    run: str = ""

    @property
    def key(self) -> Key:
        """Prompt and seed of the soup; seed 0 where the row gives none."""
        return self.prompt, self.seed or 0

    @classmethod
    def from_json(cls, row: Mapping[str, Any], where: str, scored: bool = True) -> ImageRow:
        """Check a row and make it an ImageRow. Null counts as no entry; keys of other names are left out.

        Args:
            row: The JSON object.
            where: File and line, for errors.
            scored: Whether the row must have rewards. False ignores them, for pictures that are to be scored.

        Raises:
            ValueError: The row lacks a key, or has a value of the wrong kind, or a number that is not finite. The
                message begins with `where`.
        """
        if scored:
            row = _checked(row, where, IMAGE_ROW, ("prompt", "image", "rewards"))
        else:
            row = _checked(row, where, PROMPT_ROW, ("prompt", "image"))
        require_text(row["prompt"], where)
        return cls(
            prompt=row["prompt"],
            seed=row.get("seed"),
            preference=_floats(row.get("preference", {}), where),
            rewards=_floats(row.get("rewards", {}), where),
            image=row["image"],
            failed=tuple(map(str, row.get("failed", ()))),
            sha256=row.get("sha256", ""),
            run=row.get("run", ""),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the row as a JSON object, without the entries that are not known."""
        return {
            "prompt": self.prompt,
            **({} if self.seed is None else {"seed": self.seed}),
            **({"preference": self.preference} if self.preference else {}),
            "rewards": self.rewards,
            "image": self.image,
            **({"failed": list(self.failed)} if self.failed else {}),
            **({"sha256": self.sha256} if self.sha256 else {}),
            **({"run": self.run} if self.run else {}),
        }


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """Row of ledger.jsonl: the costs of one soup.

    Attributes:
        prompt: Prompt of the soup.
        seed: Its seed.
        images: Number of its images. 0 where the row gives none.
        ledger: Its costs. Costs that older rows do not have are 0.
        run: Id of the run that made the soup. Empty where the row gives none.
    """

    prompt: str
    seed: int
    images: int = 0
    ledger: Ledger
    run: str = ""

    @property
    def key(self) -> Key:
        """Prompt and seed of the soup."""
        return self.prompt, self.seed

    @classmethod
    def from_json(cls, row: Mapping[str, Any], where: str) -> CostRow:
        """Check a row and make it a CostRow; arguments and errors as in :meth:`ImageRow.from_json`."""
        known = _checked(row, where, COST_ROW, ("prompt", "seed"))
        ledger = ledger_from_json(row, where)
        images, run = known.get("images", 0), known.get("run", "")
        return cls(prompt=known["prompt"], seed=known["seed"], images=images, ledger=ledger, run=run)

    def to_json(self) -> dict[str, Any]:
        """Return the row as a JSON object, the fields of the ledger beside the others."""
        row = {"prompt": self.prompt, "seed": self.seed, "images": self.images, **asdict(self.ledger)}
        return row | ({"run": self.run} if self.run else {})


def ledger_from_json(row: Mapping[str, Any], where: str) -> Ledger:
    """Check the costs in a JSON object. Costs that it does not have are 0; keys of other names are left out.

    Args:
        row: The JSON object.
        where: Its place, for errors.

    Raises:
        ValueError: A value is of the wrong kind, or a number is below 0 or not finite. The message begins with `where`.
    """
    known = _checked(row, where, LEDGER, ())
    for name, value in known.items():
        for key, number in value.items() if isinstance(value, dict) else [(name, value)]:
            if LEDGER[name] is not str and _require_finite(key, number, where) < 0:
                raise ValueError(f"{where} has {key} {number}: costs are 0 or more")
    return Ledger(**known)


def grouped(rows: Iterable[Row], key: Callable[[Row], Group]) -> dict[Group, list[Row]]:
    """Group rows by a key, in the order of its first appearance."""
    groups: dict[Group, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return dict(groups)


def total(costs: Iterable[CostRow]) -> Ledger:
    """Sum the costs of soups. The device is that of the first soup."""
    return added([cost.ledger for cost in costs])


def _checked(row: Mapping[str, Any], where: str, kinds: Mapping[str, type], needed: Iterable[str]) -> dict[str, Any]:
    """Return the entries of a row that are known and not null, after a check of their kinds."""
    known = {key: row[key] for key in kinds if row.get(key) is not None}
    for key in needed:
        if key not in known:
            raise ValueError(f"{where} lacks {key!r}: rows need {', '.join(needed)}")
    for key, value in known.items():
        if not isinstance(value, int | float if kinds[key] is float else kinds[key]):
            raise ValueError(f"{where} has {str(value)[:60]!r} as {key}: give {KINDS[kinds[key]]}")
    return known


def _floats(numbers: Mapping[str, object], where: str) -> dict[str, float]:
    return {name: _require_finite(name, number, where) for name, number in numbers.items()}


def _require_finite(name: str, given: object, where: str) -> float:
    try:
        if isinstance(given, int | float) and math.isfinite(given):
            return float(given)
    except OverflowError:  # an integer beyond all floats
        pass
    raise ValueError(f"{where} has {name} {str(given)[:60]}: give a finite number")
