"""Pictures of methods at equal cost, one below the other: ``python -m benchmarks.rivals_pictures``.

They are those of the soups that :mod:`benchmarks.rivals` has made, with the settings that were found for each method.
"""

from __future__ import annotations

import json
from pathlib import Path

from jsonargparse import auto_cli

from benchmarks.equal_cost import Bench
from benchmarks.rivals import PROMPTS, RESULTS, SEARCHED, entries_of
from srsoup_lightning.report.sheet import methods_sheet
from srsoup_lightning.runs.reading import read_run

METHODS = ("Fast", "SRSoup of gradients", "DSG", "DPS", "UniversalGuidance")


def main(
    figure: Path = Path("docs/images/gradients.png"),
    results: Path = RESULTS,
    workdir: Path = Path("build/rivals"),
    methods: list[str] = list(METHODS),  # noqa: B006 - jsonargparse shows the default
    prompt: str = "a leopard",
    dtype: str = "bfloat16",
) -> None:
    """Draw the soups of the first seed at the budget that settings were searched at, with rewards that have gradients.

    Args:
        figure: Where the picture goes.
        results: Folder of the rows and of the chosen settings.
        workdir: Folder of the run directories.
        methods: Which methods, by name, from top to bottom.
        prompt: One of the prompts.
        dtype: Precision of the networks.
    """
    bench = Bench("differentiable rewards", workdir, dtype, results / "sizes.json")
    chosen = json.loads((results / "chosen.json").read_text())
    entries = list(entries_of(bench, "nfe", SEARCHED, methods, chosen, list(PROMPTS)))
    best = {entry.name.split(",")[0]: entry for entry in entries}  # the tuned one comes last
    roots = {name: bench.root / "seed_0" / entry.folder for name, entry in best.items() if name in methods}
    if missing := [name for name, root in roots.items() if not root.is_dir()]:
        raise FileNotFoundError(f"{workdir} has no runs of {missing}: make these methods first, by benchmarks.rivals")
    runs = [read_run(root, name) for name, root in roots.items()]
    figure.parent.mkdir(parents=True, exist_ok=True)
    methods_sheet(prompt, runs).save(figure, optimize=True)


if __name__ == "__main__":
    auto_cli(main)
