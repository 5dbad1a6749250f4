"""Figures of a comparison as files: fronts, and hypervolume against its costs."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from srsoup_lightning.pareto import interval
from srsoup_lightning.report.comparison import Comparison
from srsoup_lightning.report.figure_style import LETTERS, Style, legend, panels, style
from srsoup_lightning.report.front_figure import draw_fronts
from srsoup_lightning.report.measures import Measured
from srsoup_lightning.terminal import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COSTS = {"queries": "reward queries a front", "nfe": "network evaluations a front", "seconds": "seconds a front"}


def write_figures(comparison: Comparison, folder: Path) -> list[Path]:
    """Draw front (for two rewards or more) and hypervolume (where costs are known) as SVG, PDF and PNG.

    Returns:
        Paths of the files.

    Raises:
        ModuleNotFoundError: No matplotlib.
    """
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"figures need matplotlib, the tables are in {folder}: pip install 'srsoup-lightning[report]', or do "
            "without figures by --figures false"
        ) from None
    drawn, paths = {}, []
    # Equal numbers give equal files. Names are text: matplotlib and LaTeX must not read them as formulas.
    with mpl.rc_context({"svg.hashsalt": "srsoup", "text.parse_math": False, "text.usetex": False, "pdf.fonttype": 42}):
        if len(comparison.units.rewards) > 1:
            drawn["front"] = draw_fronts(comparison)
        if any(run.values.get(cost) for run in comparison.runs for cost in COSTS):
            drawn["hypervolume"] = draw_costs(comparison)
        for name, figure in drawn.items():
            paths += [folder / f"{name}.{kind}" for kind in ("svg", "pdf", "png")]
            figure.savefig(paths[-3], metadata={"Date": None})
            figure.set_layout_engine("none")  # the layout is done, and takes half of the time
            figure.savefig(paths[-2], metadata={"CreationDate": None})
            figure.savefig(paths[-1], dpi=200)
    return paths


def draw_costs(comparison: Comparison) -> Figure:
    """Draw hypervolume against queries, network evaluations and seconds. A run without costs is a horizontal line."""
    figure, drawn = panels(len(COSTS))
    for (cost, label), panel in zip(COSTS.items(), drawn, strict=True):
        for number, run in enumerate(comparison.runs):
            _point(panel, run, cost, style(number))
        panel.set(xlabel=label, xscale="log")
        _plain_ticks(panel)
    drawn[0].set_ylabel("hypervolume ↑, share of the box")
    box = textwrap.fill(
        printable(f"box of the hypervolume: {comparison.units.box_text()}"), int(LETTERS * figure.get_figwidth())
    )
    figure.suptitle(box, fontsize="medium")
    legend(figure, [run.name for run in comparison.runs])
    return figure


def _plain_ticks(panel: Axes) -> None:
    """Label the logarithmic axis with as many plain numbers as have room, in place of powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    panel.margins(x=0.1)
    low, high = panel.get_xlim()
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    panel.xaxis.set_major_formatter("{x:,g}")
    panel.xaxis.set_minor_formatter(NullFormatter())


def _point(panel: Axes, run: Measured, cost: str, look: Style) -> None:
    """Draw the hypervolume of a run at its cost. Without a cost it is a horizontal line with its interval."""
    volume = interval(run.values["hypervolume"])
    spent = interval(run.values[cost])["mean"] if run.values.get(cost) else 0
    if spent:
        errors = [[max(volume["mean"] - volume["low"], 0)], [max(volume["high"] - volume["mean"], 0)]]
        look = look | {"linestyle": "none"}
        panel.errorbar(spent, volume["mean"], errors, **look, capsize=3, markersize=7)
        return
    panel.axhspan(volume["low"], volume["high"], color=look["color"], alpha=0.1, linewidth=0)
    panel.axhline(volume["mean"], color=look["color"], linestyle=look["linestyle"])
