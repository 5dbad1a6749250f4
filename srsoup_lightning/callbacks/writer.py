"""Every soup is written to the run directory as soon as it is done, and no soup is made twice."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain

import lightning as L

from srsoup_lightning.callbacks.base import SoupCallback, from_first_process
from srsoup_lightning.callbacks.identity import WAY_OUT, begin, join
from srsoup_lightning.costs.limits import budget_of, limited_costs
from srsoup_lightning.data import PromptDataModule, SoupRequest
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.runs.adapter import UsedAdapter, read_used_adapters, used_adapters, write_used_adapters
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.identity import RunIdentity
from srsoup_lightning.runs.lock import Lease, RunLock
from srsoup_lightning.runs.naming import require_distinct_folders
from srsoup_lightning.runs.rows import CostRow, ImageRow, Key, total
from srsoup_lightning.runs.spending import SharedCounts
from srsoup_lightning.samplers.result import OnStep, Soup

logger = logging.getLogger(__name__)


class SampleWriter(SoupCallback):
    """Writes pictures, scores and costs of each soup when it is done. They stay, also if the run fails later.

    A directory that holds a part of the run already is continued. Finished soups, which are those with all their rows
    and complete pictures, are not made again.

    The costs of training the LoRAs that a run samples with are copied to the directory when the run starts.

    Args:
        root: The run directory. None takes the Trainer's ``default_root_dir``.
        overwrite: Remove the run that the directory already holds and start anew.

    Raises:
        FileExistsError: The directory holds another run, pictures of a LoRA that was trained again since, or a run that
            is still going on. The error is raised before anything is sampled.
        FileNotFoundError: There is no such pipeline.
        ValueError: A table, run.json, spending.json or adapters.json in the directory is damaged, or the adapter.json
            of a LoRA; or two prompts would share a folder.
    """

    def __init__(self, root: str | None = None, overwrite: bool = False) -> None:
        self.root, self.overwrite = root, overwrite
        self._lock, self._run = RunLock(), ""

    def on_run_setup(self, trainer: L.Trainer, module: SRSoupModule) -> None:
        """Take the directory and tell the data which soups are finished; all processes get the same answer or error."""
        if (data := _prompts(trainer)) is not None:
            require_distinct_folders(data.prompts)
        finished, identity, token = from_first_process(trainer, partial(self._take, trainer, module))
        self._run = identity.id
        self._lease = Lease(self.directory(trainer), token)
        join(identity, self.directory(trainer), module)
        if self.directory(trainer).spending.is_file():
            module.account.share(SharedCounts(self.directory(trainer).spending))
        if data is not None:
            data.finished = frozenset(SoupRequest(*key) for key in finished)

    def on_run_start(self, trainer: L.Trainer, module: SRSoupModule) -> OnStep | None:
        """Check after every denoising step that no other run has begun in the directory."""
        return lambda moment: self._lease.require()

    def on_soup_end(self, trainer: L.Trainer, soup: Soup, index: int) -> None:
        """Write the soup."""
        with self._lease.writing():
            self.directory(trainer).write(soup)

    def on_soups_end(self, failed: bool) -> None:
        """Release the directory after an error; otherwise other processes may still write."""
        if failed:
            self._lock.release()

    def on_run_end(self, trainer: L.Trainer, module: SRSoupModule) -> None:
        """Merge the tables of all processes into one, and release the directory."""
        trainer.strategy.barrier("soups are written")
        if trainer.is_global_zero:
            with self._lease.writing():
                self.directory(trainer).unite()
        self._lock.release()

    def directory(self, trainer: L.Trainer) -> RunDirectory:
        """The run directory, as this process writes to it."""
        return RunDirectory(self.root or trainer.default_root_dir, trainer.global_rank, self._run)

    def _take(self, trainer: L.Trainer, module: SRSoupModule) -> tuple[list[Key], RunIdentity, str]:
        """Lock and clean the directory. Return the keys of its finished soups, the run's identity and its lease."""
        run = self.directory(trainer)
        token = self._lock.acquire(run)
        if self.overwrite:
            run.clear()
        finished, adapters = run.recover(), used_adapters(module.loras)
        if finished:
            _refuse_other_soups(run, list(finished), _prompts(trainer))
            _refuse_other_adapters(run, adapters)
        identity = begin(run, trainer, module, bool(finished))
        _refuse_mixed_rows(run, identity)
        _warn_of_other_bases(adapters, module.base)
        write_used_adapters(run.adapters, adapters)
        if module.limited:
            spent = _spent(list(run.cost_rows()))
            SharedCounts(run.spending).begin({name: spent.get(name, 0) for name in module.account.limits})
        return list(finished), identity, token


def _spent(costs: Sequence[CostRow]) -> dict[str, float]:
    """Return the amounts that finished soups have spent, by the names of limits and budgets.

    Amounts of budgets are estimates. Images of abandoned soups are in no row, and final images that preferences share
    were sent once.
    """
    ledger, images = total(costs), sum(cost.images for cost in costs)
    budgets = {budget_of(name): asked + images for name, asked in ledger.queries.items()}
    return limited_costs("run", ledger) | budgets


def _prompts(trainer: L.Trainer) -> PromptDataModule | None:
    data = getattr(trainer, "datamodule", None)
    return data if isinstance(data, PromptDataModule) else None


def _refuse_other_adapters(run: RunDirectory, adapters: Sequence[UsedAdapter]) -> None:
    """Check that the finished soups were made with these LoRAs, trained as they are now.

    Raises:
        FileExistsError: They were not.
    """
    used = {adapter.source: adapter for adapter in read_used_adapters(run.adapters)}
    asked = {adapter.source: adapter for adapter in adapters}
    for source in {**used, **asked}:
        before, now = used.get(source), asked.get(source)
        if before != now:
            raise FileExistsError(f"{run.root} holds pictures made {_in_words(source, before, now)}: {WAY_OUT}")


def _in_words(source: str, before: UsedAdapter | None, now: UsedAdapter | None) -> str:
    """How pictures were made, as far as this run makes its own differently."""
    if before is None:
        return f"without the LoRA {source!r}, which is used now"
    if now is None:
        return f"with the LoRA {source!r}, which is not used now"
    if before.weight != now.weight:
        return f"with the LoRA {source!r} at weight {before.weight}, and its weight is {now.weight} now"
    if now.facts is None:
        return f"with the LoRA {source!r}, whose folder no longer tells its training, or is missing"
    return f"with the LoRA {source!r}, which was trained otherwise then"


def _warn_of_other_bases(adapters: Sequence[UsedAdapter], base: str) -> None:
    for adapter in adapters:
        if adapter.facts is not None and adapter.facts.base != base:
            logger.warning(
                "LoRA %r was trained on %r, and this run samples with %r: they may be different models",
                adapter.source,
                adapter.facts.base,
                base,
            )


def _refuse_other_soups(run: RunDirectory, finished: Sequence[Key], data: PromptDataModule | None) -> None:
    """Check that the soups in the directory are among the requested ones.

    Raises:
        FileExistsError: They are not.
    """
    if data is None:
        raise FileExistsError(f"{run.root} already holds a run, which only a PromptDataModule can continue: {WAY_OUT}")
    requested = set(data.requests)
    if other := [key for key in finished if key not in requested]:
        prompt, seed = other[0]
        raise FileExistsError(f"{run.root} holds prompt {prompt!r}, seed {seed}, not asked for now: {WAY_OUT}")


def _refuse_mixed_rows(run: RunDirectory, identity: RunIdentity) -> None:
    """Check that all rows are of this run.

    Raises:
        FileExistsError: A row is of another one.
    """
    rows: Iterator[ImageRow | CostRow] = chain(run.image_rows(), run.cost_rows())
    for other in (row for row in rows if row.run != identity.id):
        raise FileExistsError(
            f"{run.root} holds rows of another run, {other.run or 'unknown'} for prompt {other.prompt!r}, beside those "
            f"of {identity.id}: {WAY_OUT}"
        )
