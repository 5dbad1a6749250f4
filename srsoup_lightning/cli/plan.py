"""``srsoup plan``: a Trainer that counts the cost of a run before it makes one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from math import ceil
from typing import ClassVar, NamedTuple

import lightning as L
import torch
from rich.console import Console
from rich.table import Table

from rewards.checks import first_line
from srsoup_lightning.cli.like import seconds_like
from srsoup_lightning.cli.trainer_command import TrainerCLI
from srsoup_lightning.cli.unloaded import UNLOADED, declares_gradients
from srsoup_lightning.costs.ledger import Ledger, added
from srsoup_lightning.data import PromptDataModule
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.loading.silence import silence_libraries
from srsoup_lightning.diffusion.loading.sizes import sizes_of
from srsoup_lightning.finetune.hooks import require_stage
from srsoup_lightning.finetune.rehearsal import rehearse_round
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.samplers.probe import Rates, probe
from srsoup_lightning.samplers.rehearsal import count
from srsoup_lightning.terminal import literal, printable

MIB, HOUR = 2**20, 3600.0
AT_MOST = (
    "at most: a schedule that ends without noise saves a step of search, and distilled guidance half of the "
    "network evaluations; a probe knows"
)


class SoupTrainer(L.Trainer):
    """Lightning's Trainer with a dry run."""

    def plan(
        self,
        model: SRSoupModule,
        datamodule: PromptDataModule,
        probe_models: bool = False,
        like: str | None = None,
        seconds_per_evaluation: float | None = None,
        spread_over: int = 1,
    ) -> Ledger:
        """Show the cost of ``predict``, or of ``fit`` where the model has an objective, before anything is run.

        Args:
            model: The module. Its pipeline is loaded only for a probe.
            datamodule: The prompts and seeds.
            probe_models: Load the pipeline and the rewards, and time a batch of each.
            like: A run directory of the same pipeline, size and device. The plan takes its seconds per network
                evaluation. Its rewards may be others, whose time is in these seconds.
            seconds_per_evaluation: Seconds per network evaluation, all else in it, where they are known otherwise.
            spread_over: Number of devices that share the work, at least 1, all like the one that was timed.

        Returns:
            The cost of one soup, or of the first round.

        Raises:
            FileNotFoundError: There are no soups in `like`.
            NoGradientError: The sampler needs gradients that a reward does not have.
            ValueError: `like` had another pipeline, size or device; `seconds_per_evaluation` is not above 0, or given
                beside `like`; `spread_over` is below 1; or a fit has no last epoch.
        """
        if spread_over < 1:
            raise ValueError(f"spread_over is {spread_over}: give at least 1 device")
        seconds = _known_seconds(like, seconds_per_evaluation, model, self.strategy.root_device)
        problem = denoiser = None
        if probe_models:
            model.trainer = self
            model.check()
            model.configure_model()
            model.to(self.strategy.root_device)
            problem = model.problem(
                datamodule.prompts[0], process=None if model.tuning is None else model.tuning.objective
            )
            problem = problem.serving(model.preferences.weights.mean(0))
            denoiser = problem.denoiser
        work = _soups(model, datamodule, denoiser) if model.tuning is None else self._rounds(model, denoiser)
        gradients = model.tuning is not None or model.sampler.takes_gradients or work.run.gradients > 0
        rates = None if problem is None else probe(problem, gradients)
        console = Console()
        console.print(_counts(work, caption=None if probe_models else AT_MOST))
        for line in (*_sizes(model), *_times(work, spread_over, rates, seconds)):
            console.print(printable(line), soft_wrap=True, markup=False, highlight=False)
        return work.each[0]

    def _rounds(self, model: SRSoupModule, denoiser: Denoiser | None) -> Work:
        training, rounds = model.tuning, self.max_epochs
        assert training is not None
        require_stage(training, model.preferences, "fit")
        if rounds is None or rounds < 0:
            raise ValueError("trainer.max_epochs is not given: a plan of a fit needs the number of rounds")
        first, second = (
            rehearse_round(training, model.preferences, model=denoiser, round_=number)[0] for number in (0, 1)
        )
        return Work("round", rounds, [first], added([first, *[second] * (rounds - 1)]))


class Work(NamedTuple):
    """Costs of a run.

    Attributes:
        unit: Name of its parts: "soup" or "round".
        number: Number of parts.
        each: Costs of a part. Several ledgers that differ show that the costs depend on the latents.
        run: Costs of all parts.
        at_most: Whether the costs are the highest that a part can come to.
    """

    unit: str
    number: int
    each: Sequence[Ledger]
    run: Ledger
    at_most: bool = False


def _soups(model: SRSoupModule, data: PromptDataModule, denoiser: Denoiser | None) -> Work:
    soups = len(data.prompts) * len(data.seeds)
    known = model.oracle.differentiable
    model.oracle.require_gradients(type(model.sampler).__name__, model.sampler.lacking(model.preferences, known))
    counted = partial(count, model=denoiser, differentiable=known, adapters=model.adapters)
    each = [counted(model.sampler, model.preferences, seed=seed) for seed in (0, 1)]
    at_most = model.sampler.costs_less and len(model.preferences) > 1
    return Work("soup", soups, each, added([each[0]] * soups), at_most)


def _counts(work: Work, caption: str | None) -> Table:
    """Return a table of the counts of a part and of the run, with "about" or "at most" where they depend on latents."""
    table = Table(title=f"{work.number} {work.unit}s", caption=caption)
    for heading in ("", f"a {work.unit}", "the run"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, counts in _rows(work.each).items():
        about = "about " if len(set(counts)) > 1 else "at most " if work.at_most else ""
        (run,) = _rows([work.run])[name]
        table.add_row(name, f"{about}{counts[0]:,}", f"{about}{run:,}")
    return table


def _rows(ledgers: Sequence[Ledger]) -> dict[str, list[int]]:
    """Return the counts of each ledger by the name of a row."""
    rows = {literal(f"queries of {name}"): [ledger.queries[name] for ledger in ledgers] for name in ledgers[0].queries}
    rows["network evaluations"] = [ledger.nfe for ledger in ledgers]
    if any(ledger.gradients for ledger in ledgers):
        rows["gradient evaluations"] = [ledger.gradients for ledger in ledgers]
    return rows | {"decodes": [ledger.decodes for ledger in ledgers]}


def _times(work: Work, devices: int, rates: Rates | None, seconds: float | None) -> list[str]:
    lines, (each, *_) = [], work.each
    if seconds is not None:
        time = _both(seconds * each.nfe, work, devices)
        lines.append(f"at {1e3 * seconds:.3g} ms a network evaluation, all else in it: {time}")
    if rates is not None:
        queries = ", ".join(f"{1e3 * each:.3g} ms a query of {name}" for name, each in rates.queries.items())
        network = f"{1e3 * rates.evaluation:.3g} ms an evaluation"
        network += f", {1e3 * rates.gradient:.3g} a gradient" if rates.gradient else ""
        lines.append(f"probe: {network}, {1e3 * rates.decode:.3g} a decode, {queries}")
        lines.append(f"at these rates, one after the other: {_both(rates.seconds(each), work, devices)}")
        lines.append(f"memory at its highest: {rates.peak / MIB:,.0f} MiB")
    return lines


def _both(each: float, work: Work, devices: int) -> str:
    """Return the time of a part and of the run in words. Devices share soups, each complete, and groups of a round."""
    share = ceil(work.number / devices) if work.unit == "soup" else work.number / devices
    hours = each * share / HOUR
    on = "one device" if devices == 1 else f"{devices:,} devices, {hours * devices:,.0f} h in all"
    return f"{each:,.1f} s a {work.unit}, {hours:,.2f} h the run on {on}"


def _known_seconds(like: str | None, given: float | None, model: SRSoupModule, device: torch.device) -> float | None:
    if like is not None and given is not None:
        raise ValueError(f"like is {like!r}, and seconds_per_evaluation {given}: leave out one of the two")
    if given is not None and not 0 < given < math.inf:
        raise ValueError(f"seconds_per_evaluation is {given}: give a number above 0")
    return given if like is None else seconds_like(RunDirectory(like), model, device)


def _sizes(model: SRSoupModule) -> list[str]:
    """Lines about the files and the memory of a pipeline that is named, or about why they are not known."""
    if model.backbone is not None:
        return []
    batch, adapters = model.max_batch or 1, () if model.adapters is None else model.adapters.sources
    try:
        with silence_libraries():
            sizes = sizes_of(model.base, model.loading, batch, adapters)
    except (OSError, ValueError) as error:
        return [f"files and memory of the pipeline are not known: {first_line(error)}"]
    pictures = "one picture" if batch == 1 else f"{batch} pictures"
    return [
        f"files of the pipeline: {_bytes(sizes.files)}, {_bytes(sizes.missing)} of them to be downloaded",
        f"memory for it, computed for {pictures} at once: about {_bytes(sizes.memory)}; that of rewards comes on top",
    ]


def _bytes(number: int) -> str:
    return f"{number / 1e9:,.2f} GB" if number >= 1e9 else f"{number / 1e6:,.1f} MB"


class PlanCLI(TrainerCLI):
    """Command line of ``plan``, which takes the configs of ``predict`` and of ``fit``. See :class:`TrainerCLI`."""

    trainer_type: ClassVar[type[L.Trainer]] = SoupTrainer

    def before_instantiate_classes(self) -> None:
        """Load no rewards without a probe."""
        super().before_instantiate_classes()
        config = self.config.plan
        if not config.probe_models:
            config.model.rewards = {
                name: {"class_path": UNLOADED, "init_args": {"differentiable": declares_gradients(reward)}}
                for name, reward in config.model.rewards.items()
            }
