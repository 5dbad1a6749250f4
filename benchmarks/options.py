"""What each option of the soup is worth: ``python -m benchmarks.options``.

Auto with one thing changed at a time, on prompts that are none of the query-efficiency benchmark's; rows and scales are
as there. ``python -m benchmarks.query_efficiency_report --results benchmarks/results/options --figure null --baselines
'[Auto, "N = 6"]'`` makes the table.
"""

from __future__ import annotations

from pathlib import Path

from jsonargparse import auto_cli

from benchmarks.front import COMMON
from benchmarks.query_efficiency import measure_methods
from srsoup_lightning import Loading
from srsoup_lightning.samplers import Auto, Never, Pooled, Sampler, Selection, SRSoup, Surrogate

PROMPTS = ("a fox", "a bear", "a frog", "a turtle", "a duck", "a cow", "a cat", "a whale")
POOLED = [4, 5, 5, 6]  # candidates that cost as much without a selection, where all steps are searched
SEARCHED_TO_THE_END = [*[0] * 4, *[4] * 7, *[5] * 9]  # 16 steps, as many queries as 5 in each of 15
OPTIONS: dict[str, Sampler] = {
    "Auto": Auto(**COMMON),
    "power: 4": Auto(**COMMON, sharing=Pooled(power=4)),
    "no surrogate": SRSoup(**COMMON, sharing=Pooled(), candidates=Auto.candidates, selection=Selection()),
    "nothing shared, N = 3": SRSoup(
        **COMMON, sharing=Never(), candidates=3, surrogate=Surrogate(), selection=Selection()
    ),
    "no selection, N = [4, 5, 5, 6]": SRSoup(**COMMON, sharing=Pooled(), candidates=POOLED, surrogate=Surrogate()),
    "preview: unguided": Auto(**COMMON, preview="unguided"),
    "preview: reused": Auto(**COMMON, preview="reused"),
    "preview_decoder: tiny-animals-preview": Auto(**COMMON),
    "last step searched": Auto(**COMMON, candidates=SEARCHED_TO_THE_END),
    "8 previews": Auto(**COMMON, surrogate=Surrogate(previews=8)),
    "shaping: ranks": Auto(**COMMON, shaping="ranks"),
    "N = 6": Auto(**COMMON, candidates=6),
    "N = 6, power: 4": Auto(**COMMON, candidates=6, sharing=Pooled(power=4)),
    "N = 6, antithetic": Auto(**COMMON, candidates=6, antithetic=True),
    "pool of 32": Auto(**COMMON, selection=Selection(pool=32)),
    "start at 0.4, N = 7": Auto(**COMMON, candidates=7, selection=Selection(start=0.4)),
    "nothing shared, no surrogate, N = 3": SRSoup(**COMMON, sharing=Never(), candidates=3, selection=Selection()),
    "no selection, no surrogate, N = [4, 5, 5, 6]": SRSoup(**COMMON, sharing=Pooled(), candidates=POOLED),
    "all candidates asked about all, N = 3": Auto(**COMMON, sharing=Pooled(proportional=False), candidates=3),
    "N falls from 14 to 4, then 0": Auto(**COMMON, candidates=[*[0] * 4, 14, 12, 11, 9, 8, 7, 6, 6, 5, 4, *[0] * 6]),
    "answers of one step": Auto(**COMMON, surrogate=Surrogate(window=1)),
    "shaping: std": Auto(**COMMON, shaping="std"),
    "32 previews": Auto(**COMMON, surrogate=Surrogate(previews=32)),
}
# How the model is loaded, where another way than by default.
LOADING = {
    "preview_decoder: tiny-animals-preview": {"preview_decoder": "tiny-animals-preview"},
    "last step searched": {"scheduler": {"set_alpha_to_one": False}},
}


def main(
    out: Path = Path("benchmarks/results/options"),
    settings: list[str] = ["two rewards"],  # noqa: B006 - jsonargparse shows the default
    options: list[str] = list(OPTIONS),  # noqa: B006
    prompts: list[str] = list(PROMPTS),  # noqa: B006
    seeds: list[int] = [0],  # noqa: B006
    unsteered: int = 64,
    dtype: str = "bfloat16",
) -> None:
    """Make the soups that have no row in `out` yet.

    Args:
        out: Folder of the rows and the scales.
        settings: Which rewards and preferences, by the query-efficiency benchmark's names.
        options: Which options, by name.
        prompts: Which prompts.
        seeds: Seeds of every prompt.
        unsteered: Unsteered samples of each prompt that fix its scale.
        dtype: Precision of the denoising network and the decoder.
    """
    for name in options:
        loading = Loading(dtype=dtype, **LOADING.get(name, {}))
        measure_methods({name: OPTIONS[name]}, out, settings, prompts, seeds, unsteered, loading)


if __name__ == "__main__":
    auto_cli(main)
