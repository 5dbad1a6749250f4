"""The run directory: what a run leaves behind, and the one place that knows its layout.

::

    <root>/config.yaml              everything needed to run it again
    <root>/samples/<prompt slug>-<hash>/<seed>/<preference>.png
    <root>/samples.jsonl            a row an image: prompt, seed, preference, rewards, image, and if a reward gave it
                                    no score, failed: the names of those whose worst score stands instead
    <root>/ledger.jsonl             a row a soup: prompt, seed, queries, hits, failures, nfe, decodes, seconds, device
    <root>/sheets/<prompt slug>-<hash>.png
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from srsoup_lightning.samplers.base import Soup

SLUG_LENGTH = 40


def prompt_slug(prompt: str) -> str:
    """A folder name for any prompt: its first letters and digits, and a hash that tells equal beginnings apart."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:SLUG_LENGTH].strip("-") or "prompt"
    return f"{words}-{hashlib.blake2b(prompt.encode(), digest_size=4).hexdigest()}"


def to_picture(image: Tensor) -> Image.Image:
    """An image (3, H, W) in [0, 1] as an 8-bit picture."""
    return Image.fromarray((image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def read_image(path: Path) -> Tensor:
    """A picture file as an image (3, H, W) in [0, 1], float32.

    Raises:
        OSError: The file is gone or no picture.
    """
    with Image.open(path) as picture:
        levels = np.asarray(picture.convert("RGB"))
    return torch.tensor(levels).permute(2, 0, 1) / 255


class RunDirectory:
    """Writes soups to a folder and reads them back.

    Args:
        root: The folder; it is made when something is written.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    @property
    def config(self) -> Path:
        """The config that made the run."""
        return self.root / "config.yaml"

    @property
    def samples(self) -> Path:
        """The table of images."""
        return self.root / "samples.jsonl"

    @property
    def ledger(self) -> Path:
        """The table of costs."""
        return self.root / "ledger.jsonl"

    @property
    def sheets(self) -> Path:
        """The folder of the sheets, one a prompt."""
        return self.root / "sheets"

    def write(self, soup: Soup) -> None:
        """Write a soup's pictures, then its rows; a soup has its ledger row only when all the rest is there."""
        folder = Path("samples") / prompt_slug(soup.prompt) / str(soup.seed)
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        rows = []
        for name, weights, image, scores, failed in zip(
            soup.preference_names,
            soup.preferences.tolist(),
            soup.images,
            soup.rewards.tolist(),
            soup.failed.tolist(),
            strict=True,
        ):
            path = folder / f"{name}.png"
            save_png(to_picture(image), self.root / path)
            rows.append(
                {
                    "prompt": soup.prompt,
                    "seed": soup.seed,
                    "preference": dict(zip(soup.reward_names, (round(weight, 6) for weight in weights), strict=True)),
                    "rewards": dict(zip(soup.reward_names, scores, strict=True)),
                    "image": path.as_posix(),
                    **({"failed": list(compress(soup.reward_names, failed))} if any(failed) else {}),
                }
            )
        _append(self.samples, rows)
        _append(self.ledger, [{"prompt": soup.prompt, "seed": soup.seed, **asdict(soup.ledger)}])

    def clear(self) -> None:
        """Remove what :meth:`write` and the reports made, and nothing else."""
        for table in (self.samples, self.ledger):
            table.unlink(missing_ok=True)
        for folder in (self.root / "samples", self.sheets):
            shutil.rmtree(folder, ignore_errors=True)

    def sample_rows(self) -> Iterator[dict[str, Any]]:
        """The rows of samples.jsonl, none if there is no such file."""
        return _read(self.samples)

    def ledger_rows(self) -> Iterator[dict[str, Any]]:
        """The rows of ledger.jsonl, none if there is no such file."""
        return _read(self.ledger)


def save_png(picture: Image.Image, path: Path) -> None:
    """Write a picture so that a reader finds it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    picture.save(unfinished, format="PNG")
    unfinished.replace(path)


def _append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add whole lines in one write, so that processes appending to one file don't mix theirs."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)


def _read(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)
