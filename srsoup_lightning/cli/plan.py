"""``srsoup plan``: a Trainer that counts the cost of a run before it makes one."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import lightning as L
from rich.console import Console
from rich.table import Table
from torch import Tensor

from rewards import Reward
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.data import PromptDataModule
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.rows import total
from srsoup_lightning.samplers.rehearsal import Rates, count, probe
from srsoup_lightning.terminal import literal, printable

MIB, HOUR = 2**20, 3600.0
AT_MOST = (
    "at most: a schedule that ends without noise saves a step of search, and distilled guidance half of the "
    "network evaluations; a probe knows"
)


class Unloaded(Reward):
    """Stand-in for a reward whose model is not loaded. A plan counts its queries without asking it."""

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Raise an error: there is no model to score with.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError("this reward stands for another in a plan and scores nothing: load the one it stands for")


class SoupTrainer(L.Trainer):
    """Lightning's Trainer with a dry run."""

    def plan(
        self,
        model: SRSoupModule,
        datamodule: PromptDataModule,
        probe_models: bool = False,
        like: str | None = None,
        spread_over: int = 1,
    ) -> Ledger:
        """Show the cost of ``predict``, before anything is downloaded or run.

        Args:
            model: The module. Its pipeline is loaded only for a probe.
            datamodule: The prompts and seeds.
            probe_models: Load the pipeline and the rewards, and time a batch of each.
            like: A run directory of the same pipeline and rewards. The plan takes its seconds per network evaluation.
            spread_over: Number of devices that share the soups, at least 1, all like the one that was timed.

        Returns:
            The cost of one soup.

        Raises:
            FileNotFoundError: There are no soups in `like`.
            ValueError: `spread_over` is below 1.
        """
        if spread_over < 1:
            raise ValueError(f"spread_over is {spread_over}: give at least 1 device")
        soups = len(datamodule.prompts) * len(datamodule.seeds)
        seconds = None if like is None else _seconds_an_evaluation(RunDirectory(like))
        rates = denoiser = None
        if probe_models:
            model.trainer = self
            model.setup("predict")
            model.to(self.strategy.root_device)
            problem = model.problem(datamodule.prompts[0])
            rates, denoiser = probe(problem), problem.denoiser
        ledgers = [count(model.sampler, model.preferences, model=denoiser, seed=seed) for seed in (0, 1)]
        console = Console()
        console.print(_counts(ledgers, soups, caption=None if probe_models else AT_MOST))
        for line in _times(ledgers[0], Share(soups, spread_over), rates, seconds):
            console.print(printable(line), soft_wrap=True, markup=False, highlight=False)
        return ledgers[0]


def _counts(ledgers: list[Ledger], soups: int, caption: str | None) -> Table:
    """Return a table of the counts of a soup and of the run, with "about" where they depend on the latents."""
    table = Table(title=f"{soups} soups", caption=caption)
    for heading in ("", "a soup", "the run"):
        table.add_column(heading, justify="right" if heading else "left")
    rows = {literal(f"queries of {name}"): [ledger.queries[name] for ledger in ledgers] for name in ledgers[0].queries}
    rows["network evaluations"] = [ledger.nfe for ledger in ledgers]
    if any(ledger.gradients for ledger in ledgers):
        rows["gradient evaluations"] = [ledger.gradients for ledger in ledgers]
    rows["decodes"] = [ledger.decodes for ledger in ledgers]
    for name, counts in rows.items():
        about = "" if len(set(counts)) == 1 else "about "
        table.add_row(name, f"{about}{counts[0]:,}", f"{about}{counts[0] * soups:,}")
    return table


class Share(NamedTuple):
    """Numbers of soups and of the devices that share them."""

    soups: int
    devices: int


def _times(ledger: Ledger, share: Share, rates: Rates | None, seconds: float | None) -> list[str]:
    lines = []
    if seconds is not None:
        each = seconds * ledger.nfe
        lines.append(
            f"at the measured {1e3 * seconds:.3g} ms a network evaluation, all else in it: {_both(each, share)}"
        )
    if rates is not None:
        queries = ", ".join(f"{1e3 * each:.3g} ms a query of {name}" for name, each in rates.queries.items())
        lines.append(
            f"probe: {1e3 * rates.evaluation:.3g} ms an evaluation, {1e3 * rates.decode:.3g} a decode, {queries}"
        )
        lines.append(f"at these rates, one after the other: {_both(rates.seconds(ledger), share)}")
        lines.append(f"memory at its highest: {rates.peak / MIB:,.0f} MiB")
    return lines


def _both(each: float, share: Share) -> str:
    """Return the time of a soup and of the run in words. A device makes complete soups only."""
    hours = each * ceil(share.soups / share.devices) / HOUR
    devices = (
        "one device" if share.devices == 1 else f"{share.devices:,} devices, {hours * share.devices:,.0f} h in all"
    )
    return f"{each:,.1f} s a soup, {hours:,.2f} h the run on {devices}"


def _seconds_an_evaluation(run: RunDirectory) -> float:
    spent = total(run.cost_rows())
    if not spent.nfe:
        raise FileNotFoundError(f"no soups in {str(run.root)!r}: give the directory of a run that made some")
    return spent.seconds / spent.nfe
