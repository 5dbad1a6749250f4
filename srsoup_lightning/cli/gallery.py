"""``srsoup gallery``: a page that shows runs side by side."""

from __future__ import annotations

from pathlib import Path

from srsoup_lightning.report.gallery import TITLE, write_gallery


def gallery(runs: list[str], out: str = "gallery.html", title: str = TITLE, max_side: int = 512) -> Path:
    """Write a page that shows runs side by side, with a slider from reward to reward.

    The page is one HTML file that loads nothing from anywhere. A preference is chosen by a slider (two rewards), in a
    triangle (three) or by a weight for each reward. Every run shows the picture whose preference is nearest to it, in
    Euclidean distance between the weights. Pictures without a preference stand beside them.

    Args:
        runs: Run directories, or .jsonl files of scored pictures; ``label=path`` names one.
        out: The file to write.
        title: The heading of the page.
        max_side: Pixels; pictures with a longer side are made smaller for the page.

    Returns:
        The path of the page, which the command line shows.

    Raises:
        FileNotFoundError, IsADirectoryError, ValueError: See :func:`srsoup_lightning.report.gallery.write_gallery`.
    """
    return write_gallery(runs, out, title, max_side)
