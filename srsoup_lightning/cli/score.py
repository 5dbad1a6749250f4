"""``srsoup score``: what rewards say of any pictures, ours or from elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from rewards import Reward
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.oracle.oracle import RewardOracle
from srsoup_lightning.oracle.policy import OraclePolicy, RewardError
from srsoup_lightning.report.tables import scores_table
from srsoup_lightning.runs.files import append_rows, is_torn, read_rows, to_lines, write_atomically
from srsoup_lightning.runs.pictures import Entry, batches, find_entries, load_images
from srsoup_lightning.terminal import printable


def score(
    rewards: dict[str, Reward],
    images: str,
    prompts: str | None = None,
    out: str = "scores.jsonl",
    batch_size: int = 16,
    retries: int = 0,
    timeout: float | None = None,
    device: str | None = None,
    overwrite: bool = False,
) -> list[dict[str, Any]]:
    """Score pictures into a file with a JSON row each, and show a table.

    A row has prompt, rewards and image (relative to the file), and the seed and the preference where the prompts file
    says them. What is scored is kept, whatever comes after: the same command again scores what is missing. It knows
    rewards by their names and pictures by their paths: where something else is behind them now, start anew.

    Args:
        rewards: Name to reward.
        images: Folder of the pictures, searched with all its subfolders; or a run directory.
        prompts: A .jsonl file with a row a picture that has image (relative to `images`) and prompt; or a text file
            with a line for every picture in the order of their paths, or with one line for all (which rewards that
            look at pictures alone ignore). None takes the samples.jsonl of a run directory, whose run may be under way.
        out: The .jsonl file to write.
        batch_size: How many pictures of one size are scored at once, at least 1.
        retries: How often a reward is asked again about pictures that it failed on.
        timeout: Seconds after which a call to a reward has failed; None waits.
        device: Where rewards with networks run; None takes a GPU if there is one.
        overwrite: Start `out` anew, once all else is found to be in order.

    Returns:
        The rows of `out`.

    Raises:
        FileNotFoundError: No pictures, no prompts, or a picture that the prompts file names and that isn't there.
        ValueError: A file that is no picture, other numbers of lines and pictures, an `out` of other rewards, or an
            argument that is none of those.
        OSError: `out` can't be written.
        RewardError: Rewards gave some pictures no score; all others are in `out`.
    """
    if not rewards:
        raise ValueError("rewards are empty: name at least one")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: give at least 1")
    policy, place = OraclePolicy("worst", retries, timeout, cached=list(rewards)), _device(device)
    entries, table = find_entries(Path(images), None if prompts is None else Path(prompts)), Path(out)
    missing = entries if overwrite else _not_in(table, entries, list(rewards))
    for reward in rewards.values():
        reward.check()
    judges = RewardOracle({name: reward.to(place).score for name, reward in rewards.items()}, policy=policy)
    _make_ready(table, overwrite)
    ledger, failed = Ledger.of(rewards), 0
    with Progress() as progress, torch.inference_mode():
        task = progress.add_task("scoring", total=len(entries), completed=len(entries) - len(missing))
        for some in batches(missing, batch_size):
            rows = _rows(some, _scores(judges, some, place, ledger), list(rewards), table)
            append_rows(table, rows)
            failed += len(some) - len(rows)
            progress.advance(task, len(some))
    found = list(read_rows(table))
    if found:
        Console().print(scores_table(found, ledger))
    if failed:
        raise RewardError(
            f"{failed} of {len(missing)} pictures have no score: {table} has the others; the same command asks again"
        )
    return found


def _device(name: str | None) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: Torch can't use it.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(
            f"device is {name!r}, which can't be used here ({reason}): give another, such as cpu"
        ) from None


def _make_ready(table: Path, overwrite: bool) -> None:
    """Start a table anew, or leave its whole rows, so that further ones can be added; without any it becomes empty.

    Raises:
        OSError: It can't be written.
    """
    if overwrite or is_torn(table):
        write_atomically(table, b"" if overwrite else to_lines(read_rows(table)))
    else:
        append_rows(table, [])


def _not_in(table: Path, entries: list[Entry], rewards: list[str]) -> list[Entry]:
    """The entries that the table has no row of yet.

    Raises:
        ValueError: Its rows are of other rewards.
    """
    done = set()
    for row in read_rows(table):
        if sorted(row["rewards"]) != sorted(rewards):
            raise ValueError(
                f"{table} has scores of {', '.join(row['rewards'])}, not of {', '.join(rewards)}: "
                "give another --out, or --overwrite true"
            )
        done.add((row["image"], row["prompt"]))
    return [entry for entry in entries if (_relative(entry, table), entry.known["prompt"]) not in done]


def _scores(judges: RewardOracle, entries: list[Entry], place: torch.device, ledger: Ledger) -> Tensor:
    """Scores (B, M), NaN where a reward gave none."""
    images, prompts = load_images(entries).to(place), [entry.known["prompt"] for entry in entries]
    columns = [
        judges.score(name, images, prompts, f"on {printable(str(entries[0].path))}", ledger) for name in judges.rewards
    ]
    return torch.stack(columns, dim=1).cpu()


def _rows(entries: list[Entry], scores: Tensor, rewards: list[str], table: Path) -> list[dict[str, Any]]:
    """The rows of the entries that all rewards gave a score (B, M)."""
    return [
        {**entry.known, "rewards": dict(zip(rewards, row.tolist(), strict=True)), "image": _relative(entry, table)}
        for entry, row in zip(entries, scores, strict=True)
        if row.isfinite().all()
    ]


def _relative(entry: Entry, table: Path) -> str:
    return Path(os.path.relpath(entry.path, table.parent)).as_posix()
