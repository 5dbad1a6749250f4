"""The soups to make: every prompt with every seed, one a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import lightning as L
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from srsoup_lightning.runs.files import require_text


class SoupRequest(NamedTuple):
    """One soup to make; its place in the list says nothing about its random numbers."""

    prompt: str
    seed: int


class PromptDataModule(L.LightningDataModule):
    """Every prompt with every seed, prompt by prompt.

    Args:
        prompts: A list of prompts, or the path of a UTF-8 text file with one a line (blank lines are skipped).
        seeds: Seeds of each prompt, each a whole number.

    Raises:
        FileNotFoundError: No such prompt file.
        ValueError: No prompts, or one that is empty, repeated or no text in UTF-8; no seeds, or a repeated one.
    """

    def __init__(self, prompts: list[str] | str, seeds: Sequence[int] = (0,)) -> None:
        super().__init__()
        self.prompts = _read(prompts) if isinstance(prompts, str) else list(prompts)
        self.seeds = list(seeds)
        if not self.prompts:
            raise ValueError(f"no prompts in {prompts!r}: give at least one, e.g. --data.prompts '[a lobster]'")
        if any(not prompt.strip() for prompt in self.prompts):
            raise ValueError("a prompt is empty: remove it or describe a picture")
        for prompt in self.prompts:
            require_text(prompt, "the list of prompts")
        for name, values in (("prompt", self.prompts), ("seed", self.seeds)):
            if len(set(values)) < len(values):
                ((repeated, times),) = Counter(values).most_common(1)
                raise ValueError(f"{name} {repeated!r} is given {times} times: give it once")
        if not self.seeds:
            raise ValueError("no seeds: give at least one, e.g. --data.seeds '[0]'")
        self.allow_zero_length_dataloader_with_multiple_devices = True  # of fewer soups than processes, some have none
        self.finished: frozenset[SoupRequest] = frozenset()
        """Soups that are there already and need not be made."""

    @property
    def requests(self) -> list[SoupRequest]:
        """All soups, finished or not."""
        return [SoupRequest(prompt, seed) for prompt in self.prompts for seed in self.seeds]

    def predict_dataloader(self) -> DataLoader[SoupRequest]:
        """This process's share of the soups that are not finished, one a batch; some processes may have none."""
        rank, world_size = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        requests = _Requests([request for request in self.requests if request not in self.finished][rank::world_size])
        # Lightning leaves a DistributedSampler alone; its own refuses to run fewer soups than processes.
        sampler: DistributedSampler[SoupRequest] = DistributedSampler(requests, num_replicas=1, rank=0, shuffle=False)
        return DataLoader(requests, batch_size=1, collate_fn=_only, sampler=sampler)


class _Requests(Dataset[SoupRequest]):
    def __init__(self, requests: list[SoupRequest]) -> None:
        self.requests = requests

    def __len__(self) -> int:
        return len(self.requests)

    def __getitem__(self, index: int) -> SoupRequest:
        return self.requests[index]


def _only(batch: list[SoupRequest]) -> SoupRequest:
    (request,) = batch
    return request


def _read(path: str) -> list[str]:
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no prompt file {path!r}: give the path of a text file with a prompt a line, or a list of prompts"
        )
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip()]
