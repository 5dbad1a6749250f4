"""``srsoup score``: scores of pictures from a run or from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from rewards.checks import first_line
from rewards.function_reward import Rewards, as_rewards
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.costs.meter import Meter
from srsoup_lightning.oracle.oracle import RewardOracle
from srsoup_lightning.oracle.policy import OraclePolicy, RewardError
from srsoup_lightning.oracle.wrappers import Question
from srsoup_lightning.report.tables import scores_table
from srsoup_lightning.runs.files import append_rows, is_torn, read_rows, to_lines, write_atomically
from srsoup_lightning.runs.pictures import Entry, batches, find_entries, load_images
from srsoup_lightning.runs.rows import ImageRow
from srsoup_lightning.terminal import is_quiet, printable


def score(
    rewards: Rewards,
    images: str,
    prompts: str | None = None,
    out: str = "scores.jsonl",
    batch_size: int = 16,
    retries: int = 0,
    timeout: float | None = None,
    device: str | None = None,
    overwrite: bool = False,
    prompt_column: str | None = None,
) -> list[ImageRow]:
    """Score pictures into a file with one JSON row for each, and show a table.

    A row has prompt, rewards and image (relative to the file), and the seed and the preference where the prompts file
    gives them. Finished rows are kept, and the same command scores the pictures that are missing. It knows rewards by
    their names and pictures by their paths: if one of them has changed, overwrite the file.

    Args:
        rewards: Name to reward, or to a function of images and prompts.
        images: Folder of the pictures, searched with all its subfolders; or a run directory.
        prompts: A table (.jsonl, .json, .csv or .tsv) with a row for each picture that has image (relative to `images`)
            and prompt; or a text file or table with a prompt for every picture in the order of their paths, or with one
            for all (rewards that use no prompt ignore it). None takes the samples.jsonl of a run directory, whose run
            may be under way.
        out: The .jsonl file to write.
        batch_size: Number of pictures of one size that are scored at once, at least 1.
        retries: Number of times that a reward is asked again about pictures that it failed on.
        timeout: Seconds after which a call to a reward has failed; None waits.
        device: Device of rewards with networks; None takes a GPU if there is one.
        overwrite: Empty `out` first, after all arguments and pictures are checked.
        prompt_column: Column of the prompts in a table. None takes "prompt" or "prompts".

    Returns:
        The rows of `out`.

    Raises:
        FileNotFoundError: There are no pictures or no prompts, or a picture of the prompts file is missing.
        ValueError: A file is no picture, a row is damaged, the numbers of lines and pictures differ, `out` has scores
            of other rewards, or an argument is out of its range.
        OSError: `out` can't be written.
        RewardError: Some pictures have no score. All others are in `out`.
    """
    if not rewards:
        raise ValueError("rewards are empty: name at least one")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: give at least 1")
    by_name = as_rewards(rewards)
    policy, on = OraclePolicy("worst", retries, timeout, cached=list(rewards)), _device(device)
    entries = find_entries(Path(images), None if prompts is None else Path(prompts), prompt_column)
    table = Path(out)
    missing = entries if overwrite else _not_in(table, entries, list(rewards))
    for reward in by_name.values():
        reward.check()
    oracle = RewardOracle({name: reward.to(on) for name, reward in by_name.items()}, policy)
    _make_ready(table, overwrite)
    ledger, failed = Ledger.of(by_name), 0
    with Progress(disable=is_quiet()) as progress, torch.inference_mode():
        task = progress.add_task("scoring", total=len(entries), completed=len(entries) - len(missing))
        for batch in batches(missing, batch_size):
            rows = _scored(batch, _scores(oracle, batch, on, ledger), list(rewards), table)
            append_rows(table, [row.to_json() for row in rows])
            failed += len(batch) - len(rows)
            progress.advance(task, len(batch))
    found = list(_rows(table))
    if found:
        Console().print(scores_table(found, ledger))
    if failed:
        raise RewardError(
            f"{failed} of {len(missing)} pictures have no score: {table} has the others; the same command asks again"
        )
    return found


def _device(name: str | None) -> torch.device:
    """Return the device of that name; None takes a GPU if there is one.

    Raises:
        ValueError: Torch can't use it.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, dtype=torch.float32, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device is {name!r}, which can't be used here ({first_line(error)}): give another, such as cpu"
        ) from None


def _make_ready(table: Path, overwrite: bool) -> None:
    """Make a table ready for further rows: empty it, or remove a torn last line, or create it.

    Raises:
        OSError: It can't be written.
    """
    if overwrite or is_torn(table):
        write_atomically(table, b"" if overwrite else to_lines(row.to_json() for row in _rows(table)))
    else:
        append_rows(table, [])


def _rows(table: Path) -> Iterator[ImageRow]:
    return (ImageRow.from_json(row, where) for where, row in read_rows(table))


def _not_in(table: Path, entries: list[Entry], rewards: list[str]) -> list[Entry]:
    """Return the entries that the table has no row of yet.

    Raises:
        ValueError: Its rows are of other rewards.
    """
    done = set()
    for row in _rows(table):
        if sorted(row.rewards) != sorted(rewards):
            raise ValueError(
                f"{table} has scores of {', '.join(row.rewards)}, not of {', '.join(rewards)}: "
                "give another --out, or --overwrite true"
            )
        done.add((row.image, row.prompt))
    return [entry for entry in entries if (_relative(entry, table), entry.row.prompt) not in done]


def _scores(oracle: RewardOracle, entries: list[Entry], on: torch.device, ledger: Ledger) -> Tensor:
    """Return scores (B, M) of B entries, NaN where a reward gave none."""
    images, prompts = load_images(entries).to(on), [entry.row.prompt for entry in entries]
    question = Question(images, prompts, f"on {printable(str(entries[0].path))}", Meter(ledger))
    return torch.stack([oracle.score(name, question) for name in oracle.rewards], dim=1).cpu()


def _scored(entries: list[Entry], scores: Tensor, rewards: list[str], table: Path) -> list[ImageRow]:
    """Return the rows of the entries whose scores (B, M) are all there."""
    return [
        replace(entry.row, rewards=dict(zip(rewards, row.tolist(), strict=True)), image=_relative(entry, table))
        for entry, row in zip(entries, scores, strict=True)
        if row.isfinite().all()
    ]


def _relative(entry: Entry, table: Path) -> str:
    return Path(os.path.relpath(entry.path, table.parent)).as_posix()
