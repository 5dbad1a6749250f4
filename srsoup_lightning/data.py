"""Data of a run: each prompt with each seed is one batch."""

from __future__ import annotations

import operator
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex

import lightning as L
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from srsoup_lightning.runs.files import require_text
from srsoup_lightning.runs.prompt_files import TABLES, read_prompts


class SoupRequest(NamedTuple):
    """Prompt and seed of a soup. Its random numbers depend on these alone, not on its index in the list."""

    prompt: str
    seed: int


class PromptDataModule(L.LightningDataModule):
    """Every prompt with every seed, prompt by prompt.

    Args:
        prompts: List of prompts, or path of a text file with one prompt in each line, or of a table (.csv, .tsv,
            .jsonl or .json); see :func:`~srsoup_lightning.runs.prompt_files.read_prompts`. A text that is no file is a
            prompt, unless it looks like a path: it ends as these files do, or has a slash and no space.
        seeds: Seeds of each prompt, each a whole number. A fit does not use them.
        validation_prompts: Prompts of the pictures that a fit makes on a schedule, in the same form; none by default.
        validation_seeds: Seeds of each of them.
        prompt_column: Column of the prompts in a table. None takes "prompt" or "prompts".

    Attributes:
        finished: Soups that exist already and need not be made.

    Raises:
        FileNotFoundError: `prompts` looks like a path, and there is no such file.
        TypeError: A prompt is no text, or a seed no whole number.
        ValueError: There are no prompts or no seeds, one is repeated, or a prompt is empty or no text in UTF-8; or a
            prompt file is damaged, of another kind, or has no such column.
    """

    def __init__(
        self,
        prompts: list[str] | str,
        seeds: Sequence[int] = (0,),
        validation_prompts: list[str] | str = (),  # type: ignore[assignment] # an empty list that nobody can change
        validation_seeds: Sequence[int] = (0,),
        prompt_column: str | None = None,
    ) -> None:
        super().__init__()
        self.prompts, self.seeds = _checked(prompts, seeds, prompt_column)
        if not self.prompts:
            raise ValueError(f"no prompts in {prompts!r}: give at least one, e.g. --data.prompts '[a lobster]'")
        validation = _checked(validation_prompts, validation_seeds, prompt_column)
        self.validation_prompts, self.validation_seeds = validation
        self.allow_zero_length_dataloader_with_multiple_devices = True  # with few soups, some processes have none
        self.finished: frozenset[SoupRequest] = frozenset()

    @property
    def requests(self) -> list[SoupRequest]:
        """All soups, finished or not."""
        return [SoupRequest(prompt, seed) for prompt in self.prompts for seed in self.seeds]

    def predict_dataloader(self) -> DataLoader[SoupRequest]:
        """Return this process's share of the unfinished soups, one for each batch. It may be empty."""
        return self._loader([request for request in self.requests if request not in self.finished])

    def train_dataloader(self) -> DataLoader[int]:
        """Return the batches of a round, as the module's objective has them."""
        module: Any = None if self.trainer is None else self.trainer.lightning_module
        return module.round_loader()

    def val_dataloader(self) -> DataLoader[SoupRequest]:
        """Return this process's share of the validation's soups, one for each batch.

        Raises:
            ValueError: There are some, and fewer than processes. Lightning would wait for ever for the one without.
        """
        requests = [SoupRequest(prompt, seed) for prompt in self.validation_prompts for seed in self.validation_seeds]
        processes = 1 if self.trainer is None else self.trainer.world_size
        if 0 < len(requests) < processes:
            raise ValueError(
                f"the validation has {len(requests)} pictures for {processes} processes: give at least as many, by "
                "validation_seeds for example, or none"
            )
        return self._loader(requests)

    def _loader(self, requests: list[SoupRequest]) -> DataLoader[SoupRequest]:
        rank, world_size = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        share = _Requests(requests[rank::world_size])
        # Lightning does not replace a DistributedSampler. Its own refuses to run fewer soups than processes.
        sampler: DistributedSampler[SoupRequest] = DistributedSampler(share, num_replicas=1, rank=0, shuffle=False)
        return DataLoader(share, batch_size=1, collate_fn=_only, sampler=sampler)


def about_request(error: Exception, request: SoupRequest) -> Exception:
    """Return the error with a note of the request that it happened in.

    A StopIteration becomes the cause of a RuntimeError, because the Trainer would take it for the end of the data and
    say nothing.
    """
    if isinstance(error, StopIteration):
        wrapped = RuntimeError(f"{error!r} while making the soup of {request}")
        wrapped.__cause__ = error
        return wrapped
    error.add_note(f"while making the soup of prompt {request.prompt!r}, seed {request.seed}")
    return error


def checked_request(prompt: str, seed: int) -> SoupRequest:
    """Return the request of a soup after a check.

    Raises:
        TypeError: The prompt is no text, or the seed no whole number.
        ValueError: The prompt is empty, or no text in UTF-8.
    """
    ((prompt,), (seed,)) = _checked([prompt], [seed], None)
    return SoupRequest(prompt, seed)


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


def _checked(prompts: list[str] | str, seeds: Sequence[int], column: str | None) -> tuple[list[str], list[int]]:
    """Return prompts and seeds after a check."""
    if not isinstance(seeds, Iterable):
        raise TypeError(f"seeds is {seeds!r}: give a list of whole numbers")
    prompts = _read(prompts, column) if isinstance(prompts, str) else [*map(_text, prompts)]
    seeds = [*map(_whole_number, seeds)]
    if any(not prompt.strip() for prompt in prompts):
        raise ValueError("a prompt is empty: remove it or describe a picture")
    for prompt in prompts:
        require_text(prompt, "the list of prompts")
    for name, values in (("prompt", prompts), ("seed", seeds)):
        if len(set(values)) < len(values):
            ((repeated, times),) = Counter(values).most_common(1)
            raise ValueError(f"{name} {repeated!r} is given {times} times: give it once")
    if not seeds:
        raise ValueError("no seeds: give at least one, e.g. --data.seeds '[0]'")
    return prompts, seeds


def _text(prompt: object) -> str:
    if not isinstance(prompt, str):
        raise TypeError(f"prompt is {prompt!r}: give a text")
    return prompt


def _whole_number(seed: SupportsIndex) -> int:
    try:
        return operator.index(seed)  # of any library's integers
    except TypeError:
        raise TypeError(f"seed is {seed!r}: give a whole number") from None


def _read(text: str, column: str | None) -> list[str]:
    """Read the prompts of a file, or take the text for a prompt."""
    if os.path.exists(text) and not os.path.isdir(text):  # Path's own raises for a prompt too long for a name
        return read_prompts(Path(text), column)
    is_path = text.lower().endswith((".txt", *TABLES)) or ("/" in text and not re.search(r"\s", text))
    if is_path:
        raise FileNotFoundError(
            f"no prompt file {text!r}: give the path of a text file with a prompt a line, or a list of prompts"
        )
    return [text]
