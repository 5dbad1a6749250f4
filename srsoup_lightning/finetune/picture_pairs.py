"""Pairs of pictures on disk: from a table of pairs, or from the ranking of scored pictures."""

from __future__ import annotations

import abc
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rewards.checks import require_choice
from rewards.pictures import load_image
from srsoup_lightning.finetune.pairs import Pairs
from srsoup_lightning.finetune.rollout import Rollout
from srsoup_lightning.runs.files import read_rows, require_text
from srsoup_lightning.runs.reading import Run, read_runs
from srsoup_lightning.runs.rows import ImageRow, grouped
from srsoup_lightning.search.ranked_pairs import Match, matched
from srsoup_lightning.search.scalarise import Value

PAIR_ROW = ("prompt", "winner", "loser")


class PicturePair(NamedTuple):
    """Files of the better and of the worse picture of a prompt."""

    winner: Path
    loser: Path


PairsOfPrompts = dict[str, list[PicturePair]]


class PicturePairs(Pairs):
    """Pairs of pictures on disk. They bring their own prompts, each as often as it has pairs, and ask no rewards.

    A group has as many pairs as `group_size` says, drawn at random. If its prompt has fewer, they come again. Pictures
    must have the size that the model is loaded for. They are used as they are: not flipped, and not cropped.
    """

    @abc.abstractmethod
    def read(self, rewards: Sequence[str], value: Value) -> PairsOfPrompts:
        """Read the pairs of each prompt that has any.

        Args:
            rewards: Names of the rewards of the fit.
            value: Value of rewards to the preference that the model is tuned for.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: A row is damaged, or there are no pairs.
        """

    def count(self, group_size: int) -> int:
        """See :meth:`Pairs.count`; the size of the group."""
        return group_size

    def prompts(self, given: Sequence[str], rewards: Sequence[str], value: Value) -> list[str]:
        """See :meth:`Objective.prompts`; those of the pairs."""
        return [prompt for prompt, pairs in self._pairs(rewards, value).items() for _ in pairs]

    def collect(self, rollout: Rollout) -> None:
        """See :meth:`Pairs.collect`; latents of pictures."""
        pairs = self._pairs(rollout.problem.rewards, rollout.value)[rollout.noise.prompt]
        order = rollout.noise.uniform(len(pairs), "pairs").argsort().tolist()
        drawn = [pairs[order[number % len(pairs)]] for number in range(rollout.members)]
        paths = list(dict.fromkeys(chain.from_iterable(drawn)))
        winner, loser = torch.tensor(
            [[paths.index(path) for path in pair] for pair in drawn], dtype=torch.int64
        ).unbind(1)
        clean = torch.cat([latent_of(path, rollout) for path in paths])
        rollout.tensors = {
            "clean": clean,
            "winner": winner,
            "loser": loser,
            "weight": torch.ones(len(drawn), dtype=torch.float32),
        }

    def _pairs(self, rewards: Sequence[str], value: Value) -> PairsOfPrompts:
        key = (tuple(rewards), tuple(value.weights.tolist()))
        if key not in self._known:
            self._known[key] = self.read(rewards, value)
        return self._known[key]

    @cached_property
    def _known(self) -> dict[object, PairsOfPrompts]:
        """Pairs that were read, by the names of the rewards and the weights of the preference."""
        return {}


def latent_of(path: Path, rollout: Rollout) -> Tensor:
    """Return the clean latent (1, C, H, W) of a picture, on the CPU.

    Raises:
        FileNotFoundError, ValueError: There is no such picture, or it has another size than the model draws.
    """
    problem = rollout.problem
    latent = problem.encode(load_image(path)[None].to(problem.device))
    if latent.shape[1:] != problem.shape:
        raise ValueError(
            f"{path} has latents of shape {tuple(latent.shape[1:])}, and the model draws {tuple(problem.shape)}: give "
            "pictures of the size that the pipeline is loaded for"
        )
    return latent.cpu()


@dataclass(frozen=True)
class PairTable(PicturePairs):
    """Pairs that somebody has judged.

    Args:
        table: A .jsonl file. Each row has prompt, winner and loser: the paths of two pictures.
        folder: Folder that the paths are relative to. None is that of the table.
    """

    table: str
    folder: str | None = None

    def read(self, rewards: Sequence[str], value: Value) -> PairsOfPrompts:
        """See :meth:`PicturePairs.read`."""
        table = Path(self.table)
        if not table.is_file():
            raise FileNotFoundError(f"no table of pairs {self.table!r}: give a .jsonl file of {', '.join(PAIR_ROW)}")
        folder, pairs = table.parent if self.folder is None else Path(self.folder), PairsOfPrompts()
        for where, row in read_rows(table, growing=False):
            prompt, winner, loser = _texts(row, where)
            pair = PicturePair(folder / winner, folder / loser)
            for path in pair:
                if not path.is_file():
                    raise FileNotFoundError(f"{where} names {str(path)!r}, which is no file: give its path, or folder")
            pairs.setdefault(prompt, []).append(pair)
        if not pairs:
            raise ValueError(f"{table} has no pairs: give a row of {', '.join(PAIR_ROW)} for each")
        return pairs


def _texts(row: Mapping[str, Any], where: str) -> tuple[str, str, str]:
    """Return prompt, winner and loser of a row, after a check."""
    for name in PAIR_ROW:
        if not isinstance(row.get(name), str):
            raise ValueError(f"{where} has no text as {name}: rows need {', '.join(PAIR_ROW)}")
    require_text(row["prompt"], where)
    if row["winner"] == row["loser"]:
        raise ValueError(f"{where} has {row['winner']!r} as winner and as loser: give two pictures, or remove the row")
    return row["prompt"], row["winner"], row["loser"]


@dataclass(frozen=True)
class RankedRuns(PicturePairs):
    """Pairs of scored pictures, from run directories or tables of ``srsoup score``. No reward is asked again.

    All pictures of a prompt are ranked by the value of their scores to the preference of the fit, whatever preference
    they were made for. Several rewards are added in units of their standard deviations over all pictures. Pictures that
    a reward failed on are left out, and pictures that are equally good make no pair.

    Args:
        runs: Run directories, or .jsonl files of scored pictures.
        match: See :class:`~srsoup_lightning.finetune.pairs.RankedSamples`.

    Raises:
        ValueError: The match is unknown, or there are no runs.
    """

    runs: tuple[str, ...]
    match: Match = "extremes"

    def __post_init__(self) -> None:
        require_choice("match", self.match, Match)
        if not self.runs or isinstance(self.runs, str):
            raise ValueError(f"runs is {self.runs!r}: give a list of run directories, or of .jsonl files of scores")

    def read(self, rewards: Sequence[str], value: Value) -> PairsOfPrompts:
        """See :meth:`PicturePairs.read`."""
        weights = value.weights.cpu()
        used = [name for name, weight in zip(rewards, weights.tolist(), strict=True) if weight > 0]
        rows = [row for run in read_runs(self.runs) for row in scored(run, used)]
        if not rows:
            raise ValueError(f"no picture of {', '.join(self.runs)} has scores by {', '.join(used)}: score them anew")
        ranked = Value(weights[weights > 0], value.kind).in_units_of(scores_of(rows, used))
        pairs: PairsOfPrompts = defaultdict(list)
        for prompt, images in grouped(rows, lambda row: row.prompt).items():
            for winner, loser, decided in zip(*matched(ranked(scores_of(images, used)), self.match), strict=True):
                if decided:
                    pairs[prompt].append(PicturePair(Path(images[winner].image), Path(images[loser].image)))
        if not pairs:
            raise ValueError(
                f"no prompt of {', '.join(self.runs)} has two pictures with different values: give runs with several "
                "pictures of a prompt"
            )
        return dict(pairs)


def scored(run: Run, used: Sequence[str]) -> Iterator[ImageRow]:
    """Yield the pictures of a run that have all scores that are used, each with the complete path of its file.

    Raises:
        ValueError: The run has no scores by one of the rewards.
    """
    for name in used:
        if name not in run.rewards:
            raise ValueError(
                f"{run.root} has no scores by {name!r}, only by {', '.join(run.rewards) or 'none'}: score its pictures "
                "by srsoup score, and give that file"
            )
    for row in run.images:
        if not set(used) & set(row.failed):
            yield replace(row, image=str(run.picture(row)))


def scores_of(rows: Sequence[ImageRow], used: Sequence[str]) -> Tensor:
    """Return scores (K, M) of K pictures by M rewards."""
    return torch.tensor([[row.rewards[name] for name in used] for row in rows], dtype=torch.float32)
