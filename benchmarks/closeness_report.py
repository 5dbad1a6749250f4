"""Table and figure of the closeness rows: ``python -m benchmarks.closeness_report``.

A borrowed candidate is worth what its lender's reward says about the borrower's: the correlation of the two sets of
rewards on the same many draws, 1 where borrowing is as good as asking. For each predictor, pairs of trajectories are
sorted by what it says and cut into a far and a close part; a good one tells parts of very different worth apart. Sorted
within each step it must tell close from far; over all steps it may live off the clock.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.figures import save

PREDICTORS = {
    "closeness of means": "coefficient at the means",
    "closeness of previews": "closeness of previews",
    "probe_correlation": "correlation of rewards on 4 probes",
}
BOUNDS = (0.0, 0.4, 0.6, 0.7, 0.9, 0.97, 1.01)  # of the coefficient, for the price list
Row = dict[str, float | str]


def main(
    rows: Path = Path("benchmarks/results/closeness.jsonl"),
    table: Path = Path("benchmarks/results/closeness.md"),
    figure: Path = Path("docs/images/closeness.svg"),
) -> None:
    """Write the table, and the figure as SVG and PNG.

    Args:
        rows: The rows of ``benchmarks.closeness``.
        table: Where the table goes.
        figure: Where the figure goes.
    """
    pairs = [row for row in map(json.loads, rows.read_text().splitlines()) if row["listener"] != row["supplier"]]
    table.write_text(as_markdown(pairs) + "\n\n" + price_list(pairs) + "\n")
    drawn = Figure(figsize=(11, 3.6), layout="constrained")
    for panel, reward in zip(drawn.subplots(1, 2), ("jpeg", "clip"), strict=True):
        _panel(panel, [row for row in pairs if row["reward"] == reward], reward)
    save(drawn, figure)


def worth(pairs: Sequence[Row]) -> float:
    """Mean correlation of the pairs' rewards; rewards that are all equal correlate with nothing."""
    return float(np.nan_to_num([row["reward_correlation"] for row in pairs]).mean())


def halves(pairs: Sequence[Row], predictor: str, *, within_steps: bool) -> tuple[float, float]:
    """Worth of the half of the pairs that a predictor calls far, and of the half that it calls close."""
    groups = [[row for row in pairs if row["step"] == step] for step in sorted({row["step"] for row in pairs})]
    far: list[Row] = []
    close: list[Row] = []
    for group in groups if within_steps else [list(pairs)]:
        ordered = sorted(group, key=lambda row: row[predictor])
        far += ordered[: len(ordered) // 2]
        close += ordered[len(ordered) // 2 :]
    return worth(far), worth(close)


def as_markdown(pairs: Sequence[Row]) -> str:
    """A row a predictor and reward."""
    lines = [
        "| reward | predictor | far / close half, all steps | far / close half within each step |",
        "|---|---|---|---|",
    ]
    for reward in ("jpeg", "clip"):
        chosen = [row for row in pairs if row["reward"] == reward]
        for predictor, name in PREDICTORS.items():
            cells = [
                "{:.2f} / {:.2f}".format(*halves(chosen, predictor, within_steps=within)) for within in (False, True)
            ]
            lines.append(f"| {reward} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def price_list(pairs: Sequence[Row]) -> str:
    """What a borrowed candidate is worth by the coefficient at the means, a row a range."""
    lines = ["| coefficient | pairs | jpeg | clip |", "|---|---|---|---|"]
    for low, high in itertools.pairwise(BOUNDS):
        chosen = [row for row in pairs if low <= row["closeness of means"] < high]
        if not chosen:
            continue
        cells = [f"{worth([row for row in chosen if row['reward'] == reward]):.2f}" for reward in ("jpeg", "clip")]
        lines.append(f"| {low:g} to {min(high, 1):g} | {len(chosen) // 2} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _panel(panel: Axes, pairs: Sequence[Row], reward: str) -> None:
    """Worth of a borrowed candidate over the steps, for the closest and the farthest third by each predictor."""
    steps = sorted({row["step"] for row in pairs})
    for predictor, name in PREDICTORS.items():
        curve = []
        for step in steps:
            ordered = sorted((row for row in pairs if row["step"] == step), key=lambda row: row[predictor])
            parts = np.array_split(np.arange(len(ordered)), 3)
            curve.append([worth([ordered[k] for k in part]) for part in (parts[0], parts[-1])])
        far, close = np.array(curve).T
        (line,) = panel.plot(steps, close, marker="o", label=f"{name}: closest third")
        panel.plot(steps, far, marker="x", linestyle=":", color=line.get_color())
    panel.set(xticks=steps, xlabel="denoising step", ylabel="correlation of rewards", title=reward, ylim=(-0.2, 1.02))
    if reward == "jpeg":
        panel.legend(fontsize="x-small")


if __name__ == "__main__":
    auto_cli(main)
