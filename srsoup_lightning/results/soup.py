"""Soup: the pictures of one prompt and one seed, with their scores and costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.results.notebook import notebook_view
from srsoup_lightning.runs.png import to_picture
from srsoup_lightning.runs.saving import save_soup


@dataclass(repr=False)  # not frozen, because Lightning rebuilds the predictions that it moves between devices
class Soup:
    """Pictures of one prompt and one seed, one for each preference, and their costs.

    A notebook shows it with a slider from preference to preference.

    Attributes:
        prompt: Prompt.
        seed: Seed.
        reward_names: Names of the M rewards, in the order of the last axis.
        preference_names: Names of the P preferences, in the order of the first axis.
        preferences: Their weights, (P, M).
        images: (P, 3, H, W) float32 in [0, 1], on the CPU.
        rewards: Scores of these images, (P, M) float32, on the CPU.
        failed: True where a reward gave no score and the worst one of the soup stands instead, bool (P, M), on the CPU.
        ledger: Costs.
    """

    prompt: str
    seed: int
    reward_names: tuple[str, ...]
    preference_names: tuple[str, ...]
    preferences: Tensor
    images: Tensor
    rewards: Tensor
    failed: Tensor
    ledger: Ledger

    def pil(self) -> list[Image.Image]:
        """Return the P pictures with 8 bits a channel, in the order of the preferences."""
        return [to_picture(image) for image in self.images]

    def save(self, folder: str | Path) -> Path:
        """Write pictures, scores and costs to a folder, as a run of ``srsoup predict`` does.

        ``srsoup compare`` and ``srsoup gallery`` read the folder. Other soups of the same rewards may be saved there.

        Returns:
            Path of the folder.

        Raises:
            FileExistsError: The folder has a soup of this prompt and seed, soups of other rewards, or a run of the
                command line; or another process is writing to it.
            NotADirectoryError: `folder` is a file.
            OSError: The disk is full, or the folder is not writable.
            ValueError: `folder` is a URL, or a table in it is damaged.
        """
        return save_soup(self, folder)

    def __repr__(self) -> str:
        count, _, height, width = self.images.shape
        lowest, highest = self.rewards.amin(0).tolist(), self.rewards.amax(0).tolist()
        scores = ", ".join(map(_range, self.reward_names, lowest, highest))
        pictures = f"{count} pictures" if count > 1 else "1 picture"
        return (
            f"Soup({self.prompt!r}, seed {self.seed}: {pictures} of {width}x{height}, {scores}; "
            f"{self.ledger.total_queries:,} queries, {self.ledger.nfe:,} network evaluations)"
        )

    def _repr_html_(self) -> str:
        """View of the pictures in a notebook."""
        return notebook_view(self, self.pil())


def _range(name: str, low: float, high: float) -> str:
    return f"{name} {low:.4g}" if low == high else f"{name} {low:.4g} to {high:.4g}"
