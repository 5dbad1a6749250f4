"""Finished runs to measure reports by: pictures of noise, which no format makes smaller, scores near the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch

from srsoup_lightning import Preferences
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.samplers import Soup


def write_noise(
    root: Path, preferences: Preferences, prompts: Sequence[str], seeds: int, side: int, number: int = 0
) -> str:
    """Write a run and return its path.

    Args:
        root: Its directory.
        preferences: Of every soup.
        prompts: Of the soups.
        seeds: Soups of each prompt.
        side: Height and width of the pictures in pixels.
        number: Another one has other pictures and scores.
    """
    count, rewards = len(preferences), len(preferences.rewards)
    random = torch.Generator().manual_seed(number)
    run = RunDirectory(root)
    with _unsafe_disk():
        for prompt in prompts:
            for seed in range(seeds):
                soup = Soup(
                    prompt=prompt,
                    seed=seed,
                    reward_names=preferences.rewards,
                    preference_names=tuple(preferences.names),
                    preferences=preferences.weights,
                    images=torch.rand(count, 3, side, side, generator=random),
                    rewards=preferences.weights + 0.1 * torch.rand(count, rewards, generator=random),
                    failed=torch.zeros(count, rewards, dtype=torch.bool),
                    ledger=Ledger.of(preferences.rewards),
                )
                run.write(soup)
    return str(root)


@contextmanager
def _unsafe_disk() -> Iterator[None]:
    """Writes that wait for no disk: of tens of thousands of pictures that nobody would miss."""
    with patch("os.fsync", lambda handle: None):
        yield
