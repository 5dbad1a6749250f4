"""Table and figure of the closeness rows: ``python -m benchmarks.closeness_report``.

For each predictor, pairs of trajectories are sorted by what it says and cut into a far and a close part; a part's
quality is the sum of what borrowing gained over the sum of what asking would have. A good predictor tells parts of very
different quality apart. Sorted within each step it must tell close from far; over all steps it may live off the clock.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PREDICTORS = {
    "closeness of means": "coefficient at the means",
    "closeness of previews": "closeness of previews",
    "probe_correlation": "correlation of rewards, 4 probes",
    "reward_correlation": "correlation of rewards, all probes",
}
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
    table.write_text(as_markdown(pairs) + "\n")
    drawn = Figure(figsize=(11, 3.6), layout="constrained")
    for panel, reward in zip(drawn.subplots(1, 2), ("jpeg", "clip"), strict=True):
        _panel(panel, [row for row in pairs if row["reward"] == reward], reward)
    figure.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(figure, metadata={"Date": None})
    drawn.savefig(figure.with_suffix(".png"), dpi=150)


def quality(pairs: Sequence[Row]) -> float:
    """What borrowing gained of what asking would have: 1 where both are as good."""
    return sum(row["gained"] for row in pairs) / sum(row["own"] for row in pairs)


def halves(pairs: Sequence[Row], predictor: str, *, within_steps: bool) -> tuple[float, float]:
    """Quality of the half of the pairs that a predictor calls far, and of the half that it calls close."""
    groups = [[row for row in pairs if row["step"] == step] for step in sorted({row["step"] for row in pairs})]
    far: list[Row] = []
    close: list[Row] = []
    for group in groups if within_steps else [list(pairs)]:
        ordered = sorted(group, key=lambda row: row[predictor])
        far += ordered[: len(ordered) // 2]
        close += ordered[len(ordered) // 2 :]
    return quality(far), quality(close)


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


def _panel(panel: Axes, pairs: Sequence[Row], reward: str) -> None:
    """Quality of a borrowed gradient over the steps, for the closest and the farthest third by each predictor."""
    steps = sorted({row["step"] for row in pairs})
    panel.axhline(1, color="0.7", linewidth=0.8)
    for predictor, name in PREDICTORS.items():
        curve = []
        for step in steps:
            ordered = sorted((row for row in pairs if row["step"] == step), key=lambda row: row[predictor])
            parts = np.array_split(np.arange(len(ordered)), 3)
            curve.append([quality([ordered[k] for k in part]) for part in (parts[0], parts[-1])])
        far, close = np.array(curve).T
        (line,) = panel.plot(steps, close, marker="o", label=f"{name}: closest third")
        panel.plot(steps, far, marker="x", linestyle=":", color=line.get_color())
    panel.set(xlabel="denoising step", ylabel="borrowed / own gain", title=reward, ylim=(-0.5, 1.5))
    if reward == "jpeg":
        panel.legend(fontsize="x-small")


if __name__ == "__main__":
    auto_cli(main)
