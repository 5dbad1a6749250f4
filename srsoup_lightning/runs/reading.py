"""Runs read back: run directories, or files of pictures that ``srsoup score`` has scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from srsoup_lightning.costs.ledger import Ledger, added
from srsoup_lightning.runs.adapter import UsedAdapter, read_used_adapters
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.files import read_rows
from srsoup_lightning.runs.rows import CostRow, ImageRow, Key, grouped

NO_RUN = "no run {!r}: give a run directory with samples.jsonl, or a .jsonl file"


@dataclass(frozen=True)
class Run:
    """Images and costs of a run.

    Attributes:
        name: Name of the run in tables and figures.
        root: Run directory, or .jsonl file of scored pictures.
        images: Rows of the images, in the order of the file.
        costs: Rows of the costs, one for each soup. Empty for a file of scored pictures.
        adapters: LoRAs that the images were made with. Empty for a file of scored pictures, which doesn't tell them.
        objectives: Names of the rewards that fronts are measured by. None takes those that some preference weighs, and
            all of them where no preference is known. The others are held out.
    """

    name: str
    root: Path
    images: tuple[ImageRow, ...]
    costs: tuple[CostRow, ...] = ()
    adapters: tuple[UsedAdapter, ...] = ()
    objectives: tuple[str, ...] | None = None

    @property
    def training(self) -> Ledger | None:
        """Costs of training its LoRAs, all together; None where they are not known. Without LoRAs they are 0."""
        if _is_file(self.root) or any(adapter.facts is None for adapter in self.adapters):
            return None
        behind = (each.facts.behind(each.source) for each in self.adapters if each.facts is not None)
        return added(list({source: costs for found in behind for source, costs in found.items()}.values()))

    @property
    def scored(self) -> tuple[str, ...]:
        """Names of all rewards, also of those that are held out; none where there are no images."""
        return tuple(self.images[0].rewards) if self.images else ()

    @property
    def rewards(self) -> tuple[str, ...]:
        """Names of the rewards that fronts are measured by; see `objectives`."""
        if self.objectives is not None:
            return self.objectives
        weighed = {name for row in self.images for name, weight in row.preference.items() if weight}
        return tuple(name for name in self.scored if name in weighed) or self.scored

    @property
    def prompts(self) -> list[str]:
        """Prompts, each once, in the order of the images."""
        return list(dict.fromkeys(row.prompt for row in self.images))

    def fronts(self) -> dict[Key, list[ImageRow]]:
        """Images by prompt and seed. Where no seed is known, all images of a prompt are one front."""
        return grouped(self.images, lambda row: row.key)

    def picture(self, row: ImageRow) -> Path:
        """Path of an image's file.

        Raises:
            ValueError: The file of a run directory lies outside of it, see :meth:`RunDirectory.picture`.
        """
        return self.root.parent / row.image if _is_file(self.root) else RunDirectory(self.root).picture(row.image)


def read_run(root: str | Path, name: str | None = None) -> Run:
    """Read a run that is finished or under way. A directory without tables is a run without images.

    Args:
        root: Run directory, or a .jsonl file with rows as in samples.jsonl, which need prompt, image and rewards.
        name: Name of the run. None takes that of the folder or file.

    Raises:
        FileNotFoundError: There is no such .jsonl file.
        ValueError: A row or adapters.json is damaged, or a row has other rewards than the first.
    """
    root = Path(root)
    if _is_file(root) and not root.is_file():
        raise FileNotFoundError(NO_RUN.format(str(root)))
    run = None if _is_file(root) else RunDirectory(root)
    rows = [
        (where, ImageRow.from_json(row, where))
        for table in (run.sample_tables() if run else [root])
        for where, row in read_rows(table, growing=run is not None)
    ]
    for where, row in rows:
        if row.rewards.keys() != rows[0][1].rewards.keys():
            raise ValueError(
                f"{where} has the rewards {list(row.rewards)} and line 1 {list(rows[0][1].rewards)}: score all "
                "pictures with the same"
            )
    costs = () if run is None else tuple(run.cost_rows())
    adapters = () if run is None else read_used_adapters(run.adapters)
    name = root.resolve().name.removesuffix(".jsonl") if name is None else name
    return Run(name, root, tuple(row for _, row in rows), costs, adapters)


def read_runs(names: Sequence[str]) -> list[Run]:
    """Read runs that are to be compared or shown.

    Args:
        names: Paths as :func:`read_run` takes them. ``label=path`` calls a run `label`.

    Raises:
        FileNotFoundError: There is no such run, or it has no images.
        ValueError: A row is damaged or has other rewards than the first of its run, or two runs have one name.
    """
    runs: dict[str, Run] = {}
    for given in names:
        label, equals, rest = given.partition("=")
        run = read_run(given) if Path(given).exists() or not equals else read_run(rest, label)
        if not run.images:
            raise FileNotFoundError(_no_images(run))
        if run.name in runs:
            raise ValueError(
                f"two runs are called {run.name!r}, {runs[run.name].root} and {run.root}: name one by label={run.root}"
            )
        runs[run.name] = run
    return list(runs.values())


def _is_file(root: Path) -> bool:
    return root.suffix == ".jsonl"


def _no_images(run: Run) -> str:
    directory = RunDirectory(run.root)
    tables = [run.root] if _is_file(run.root) else directory.sample_tables()
    if not tables and directory.identity.exists():
        return f"the run in {run.root} has no pictures yet: finish a soup first, or remove the folder"
    if not tables:
        return NO_RUN.format(str(run.root))
    return f"{tables[0]} holds no pictures: finish a soup first"
