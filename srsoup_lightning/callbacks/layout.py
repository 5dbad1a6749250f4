"""Layout of TensorBoard's custom scalars, whose first charts have one line for each run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from srsoup_lightning.callbacks.curves import CLOSENESS, HIGHEST, LOWEST, MEAN, OF_ALL, SO_FAR, of_candidates
from srsoup_lightning.report.run_tables import total_costs
from srsoup_lightning.report.trade_off import against, by_weight
from srsoup_lightning.runs.rows import total

Layout = dict[str, dict[str, list[Any]]]  # category -> chart -> kind and tags


def layout(rewards: Sequence[str]) -> Layout:
    """Return the layout for the rewards that preferences weigh.

    The charts of each category begin with those that compare runs. The last category has a line for each trajectory.
    """
    pairs = {f"{b} by {a} (0 to 1000: the box)": _line(against(a, b)) for a, b in combinations(rewards, 2)}
    weights = {f"{reward} by its weight in percent": _line(by_weight(reward)) for reward in rewards}
    candidates = {f"mean {of_candidates(reward)}": _line(f"{OF_ALL}/{of_candidates(reward)}") for reward in rewards}
    return {
        "trade-off": pairs | weights,
        "costs by finished soups": {name: _line(f"{SO_FAR}/{name}") for name in total_costs(total(()))},
        "search by denoising step": {
            **candidates,
            "best value of a preference": _line(f"{OF_ALL}/best value"),
            CLOSENESS: _line(MEAN),
        },
        "each trajectory, for a single run": {
            **{of_candidates(reward): ["Multiline", [f"^{re.escape(of_candidates(reward))}/"]] for reward in rewards},
            f"{CLOSENESS} of the closest and the farthest pair": ["Margin", [MEAN, LOWEST, HIGHEST]],
        },
    }


def _line(tag: str) -> list[Any]:
    return ["Multiline", [f"^{re.escape(tag)}$"]]
