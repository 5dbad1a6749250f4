"""What each option of the soup is worth: ``python -m benchmarks.options``.

Auto with one thing changed at a time, on prompts that are none of the query-efficiency benchmark's; rows and scales are
as there. ``python -m benchmarks.query_efficiency_report --results benchmarks/results/options --baselines '[Auto]'``
makes the table.
"""

from __future__ import annotations

from pathlib import Path

from jsonargparse import auto_cli

from benchmarks.front import COMMON
from benchmarks.query_efficiency import measure_methods
from srsoup_lightning.samplers import Auto, Never, Pooled, Sampler, SRSoup, Surrogate

PROMPTS = ("a fox", "a bear", "a frog", "a turtle", "a duck", "a cow", "a cat", "a whale")
EVEN = [4, 4, 6, 6]  # mirrored candidates come in pairs
OPTIONS: dict[str, Sampler] = {
    "Auto": SRSoup(**COMMON),
    "nothing predicted (Pooled)": SRSoup(**COMMON, sharing=Pooled(), candidates=list(Auto.candidates)),
    "nothing shared (Never) but the surrogate": SRSoup(
        **COMMON, sharing=Never(), candidates=list(Auto.candidates), surrogate=Surrogate()
    ),
    "8 previews": SRSoup(**COMMON, surrogate=Surrogate(previews=8)),
    "32 previews": SRSoup(**COMMON, surrogate=Surrogate(previews=32)),
    "answers of one step": SRSoup(**COMMON, surrogate=Surrogate(window=1)),
    "shaping: ranks": SRSoup(**COMMON, shaping="ranks"),
    "shaping: tanh": SRSoup(**COMMON, shaping="tanh"),
    f"N = {EVEN}": SRSoup(**COMMON, candidates=EVEN),
    f"N = {EVEN}, antithetic": SRSoup(**COMMON, candidates=EVEN, antithetic=True),
    "N = [5, 7, 8, 0]: no search in the last quarter": SRSoup(**COMMON, candidates=[5, 7, 8, 0]),
    "preview: unguided": SRSoup(**COMMON, preview="unguided"),
    "preview: reused": SRSoup(**COMMON, preview="reused"),
}


def main(
    out: Path = Path("benchmarks/results/options"),
    options: list[str] = list(OPTIONS),  # noqa: B006 - jsonargparse shows the default
    prompts: list[str] = list(PROMPTS),  # noqa: B006
    seeds: list[int] = [0],  # noqa: B006
    unsteered: int = 64,
    dtype: str = "bfloat16",
) -> None:
    """Make the soups that have no row in `out` yet.

    Args:
        out: Folder of the rows and the scales.
        options: Which options, by name.
        prompts: Which prompts.
        seeds: Seeds of every prompt.
        unsteered: Unsteered samples of each prompt that fix its scale.
        dtype: Precision of the denoising network and the decoder.
    """
    measure_methods({name: OPTIONS[name] for name in options}, out, ["two rewards"], prompts, seeds, unsteered, dtype)


if __name__ == "__main__":
    auto_cli(main)
