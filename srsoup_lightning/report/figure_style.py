"""Panels, legend and styles of the figures. The styles can be told apart without colours."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from srsoup_lightning.terminal import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Style = dict[str, Any]
# Okabe and Ito 2008, "Color universal design"; without yellow, which is lost on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osD^vPX*"  # one more than colours, so that pairs repeat late
LINES = ("-", "--", "-.", ":")
WIDTH, HEIGHT, COLUMNS = 4.4, 3.8, 3  # inches of a panel; panels in a row
LETTERS = 12  # in an inch, in the font of the legend


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """Return a figure and its `count` panels."""
    from matplotlib.figure import Figure

    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(WIDTH * columns, 1.3 * WIDTH), HEIGHT * rows + 0.6), layout="constrained")
    found = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in found[count:]:
        panel.set_axis_off()
    for panel in found[:count]:
        panel.grid(color="0.9", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, found[:count]


def to_picture(figure: Figure) -> Image.Image:
    """Draw a figure into a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def style(number: int) -> Style:
    """Return colour, marker and line of a run by its index. The first seven differ in colour and marker."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": LINES[number % len(LINES)],
    }


def legend(figure: Figure, names: Sequence[str]) -> None:
    """Put the names of the runs below all panels, where they cover nothing."""
    from matplotlib.lines import Line2D

    labels = [textwrap.fill(printable(name), 40) for name in names]
    handles = [Line2D([], [], label=label, **style(number)) for number, label in enumerate(labels)]
    room = LETTERS * figure.get_figwidth() / (max(map(len, labels)) + 7)  # a handle takes the room of seven letters
    columns = max(1, min(len(names), int(room)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
