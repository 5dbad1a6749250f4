"""View of a soup in a notebook: a row of pictures, and a slider over them where scripts run."""

from __future__ import annotations

import html
import secrets
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import compress
from string import Template

from PIL import Image

from srsoup_lightning.runs.data_uris import EXACT_SIDE, data_uri
from srsoup_lightning.runs.rows import SoupRecord

ASSETS = files("srsoup_lightning.results") / "assets"
LARGEST = 512  # pixels of the longer side: a notebook keeps every picture in its file


def notebook_view(soup: SoupRecord, pictures: Sequence[Image.Image]) -> str:
    """Return HTML that shows the pictures of a soup, with their preferences and scores.

    It loads nothing. All texts are escaped. Without scripts, as on a page that shows a notebook, it is a row of
    pictures. The script adds a slider and the chosen picture above them.

    Args:
        soup: Soup of P preferences.
        pictures: Its P pictures, in the order of the preferences.
    """
    figure, view = (Template(_asset(name)) for name in ("figure.html", "notebook.html"))
    rows = zip(
        pictures,
        soup.preferences.tolist(),
        soup.rewards.tolist(),
        soup.failed.tolist(),
        soup.preference_names,
        strict=True,
    )
    figures = [
        figure.substitute(
            source=data_uri(picture, LARGEST).source,
            rendering="pixelated" if max(picture.size) <= EXACT_SIDE else "auto",
            preference=_listed(dict(zip(soup.reward_names, weights, strict=True))),
            scores=_listed(
                dict(zip(soup.reward_names, scores, strict=True)), list(compress(soup.reward_names, failed))
            ),
            name=html.escape(name),
        )
        for picture, weights, scores, failed, name in rows
    ]
    return view.substitute(
        id=f"soup-{secrets.token_hex(8)}",  # a page may show one soup twice
        prompt=html.escape(soup.prompt),
        seed=soup.seed,
        costs=f"{soup.ledger.total_queries:,} queries, {soup.ledger.nfe:,} network evaluations, "
        f"{soup.ledger.seconds:,.1f} s",
        figures="".join(figures),
        script=_asset("notebook.js"),
    )


def _listed(numbers: Mapping[str, float], failed: Sequence[str] = ()) -> str:
    marked = {name: f"{number:.4g}{' (failed)' if name in failed else ''}" for name, number in numbers.items()}
    return ", ".join(f"{html.escape(name)}&nbsp;{number}" for name, number in marked.items())


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")
