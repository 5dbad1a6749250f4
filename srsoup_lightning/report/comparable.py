"""Which runs can be compared: those on the same prompts, of the same rewards, with pictures of one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from srsoup_lightning.runs.pictures import open_picture
from srsoup_lightning.runs.reading import FinishedRun


def comparable(runs: Sequence[FinishedRun], common: bool) -> list[FinishedRun]:
    """The runs, or their parts, that can be compared.

    Args:
        runs: At least one.
        common: Keep the prompts that all runs have, in place of refusing runs on other prompts.

    Raises:
        ValueError: Runs of other rewards, prompts or picture sizes than the first, or a run of several sizes.
        FileNotFoundError: A picture that is gone.
    """
    first, *others = runs
    for other in others:
        if set(other.rewards) != set(first.rewards):
            raise ValueError(
                f"{_both(first, other)} have other rewards, {list(first.rewards)} and {list(other.rewards)}: "
                "score both with the same"
            )
    if common:
        runs = _on_common_prompts(runs)
    else:
        for other in others:
            _require_same_prompts(first, other)
    _require_one_size(runs)
    return list(runs)


def prompts_of(run: FinishedRun) -> list[str]:
    """The prompts of a run, each once, in order."""
    return list(dict.fromkeys(picture.prompt for picture in run.pictures))


def _both(first: FinishedRun, other: FinishedRun) -> str:
    return f"runs {first.name!r} and {other.name!r}"


def _on_common_prompts(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    shared = set.intersection(*(set(prompts_of(run)) for run in runs))
    if not shared:
        raise ValueError(f"runs {[run.name for run in runs]} have no prompt in common: compare runs on the same ones")
    return [
        replace(
            run,
            pictures=tuple(picture for picture in run.pictures if picture.prompt in shared),
            costs=tuple(cost for cost in run.costs if cost["prompt"] in shared),
        )
        for run in runs
    ]


def _require_same_prompts(first: FinishedRun, other: FinishedRun) -> None:
    for here, there in ((first, other), (other, first)):
        known = set(prompts_of(there))
        absent = [prompt for prompt in prompts_of(here) if prompt not in known]
        if absent:
            raise ValueError(
                f"{_both(first, other)} have other prompts, {here.name!r} alone has {len(absent)}, one of them "
                f"{absent[0]!r}: compare runs on the same prompts, or those they share by --common true"
            )


def _require_one_size(runs: Sequence[FinishedRun]) -> None:
    first = None
    for run in runs:
        for picture in run.pictures:
            with open_picture(picture.path) as opened:
                size = opened.size
            first = first or (run, picture, size)
            if size != first[2]:
                raise ValueError(
                    f"{_both(first[0], run)} have pictures of other sizes, {first[1].path} {_pixels(first[2])} and "
                    f"{picture.path} {_pixels(size)}: compare pictures of one resolution"
                )


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
