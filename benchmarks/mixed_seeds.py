"""What being alike costs a front: ``python -m benchmarks.mixed_seeds``.

Every second point of a soup's front is taken from the soup of the same prompt and another seed, over all pairs of
seeds: the utility stays what it is in the mean, queries too, but neighbours have nothing in common any more. Of the
rows of ``benchmarks.query_efficiency`` that keep their fronts, and of those that were made for this alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import torch
from jsonargparse import auto_cli
from torch import Tensor

from benchmarks.front import hypervolume
from benchmarks.query_efficiency import RESULTS, read_rows
from srsoup_lightning.pareto import ratio_interval

Fronts = dict[str, dict[int, Tensor]]  # prompt -> seed -> front (P, M)


def main(
    rows: list[Path] = [RESULTS / "soups.jsonl", Path("benchmarks/results/mixed_seeds/soups.jsonl")],  # noqa: B006
    table: Path = Path("benchmarks/results/mixed_seeds/table.md"),
) -> None:
    """Write the table.

    Args:
        rows: Files of rows.
        table: Where the table goes.
    """
    lines = ["| setting | method | soups | hypervolume of mixed seeds, ratio |", "|---|---|---|---|"]
    for (setting, method), fronts in load(rows).items():
        several = {prompt: by_seed for prompt, by_seed in fronts.items() if len(by_seed) > 1}
        if not several:
            continue
        own = {prompt: [hypervolume(front) for front in by_seed.values()] for prompt, by_seed in several.items()}
        mixed = {prompt: [hypervolume(each) for each in mixtures(by_seed)] for prompt, by_seed in several.items()}
        ratio = ratio_interval(mixed, own)
        soups = sum(map(len, several.values()))
        said = f"{ratio['mean']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
        lines.append(f"| {setting} | {method} | {soups} | {said} |")
    table.write_text("\n".join(lines) + "\n")


def load(paths: Sequence[Path]) -> dict[tuple[str, str], Fronts]:
    """The fronts of rows that keep them, by setting and method."""
    found: dict[tuple[str, str], Fronts] = defaultdict(lambda: defaultdict(dict))
    for row in (row for path in paths for row in read_rows(path)):
        if "front" in row:
            found[row["setting"], row["method"]][row["prompt"]][row["seed"]] = torch.tensor(row["front"])
    return found


def mixtures(by_seed: dict[int, Tensor]) -> list[Tensor]:
    """Of every ordered pair of fronts (P, M), the first's even points and the second's odd ones."""
    odd = torch.arange(len(next(iter(by_seed.values())))).remainder(2).bool().unsqueeze(1)
    return [torch.where(odd, other, one) for one, other in permutations(by_seed.values(), 2)]


if __name__ == "__main__":
    auto_cli(main)
