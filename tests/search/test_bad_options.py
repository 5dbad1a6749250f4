"""Numbers outside their range and unknown choices are named."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch

from srsoup_lightning.search.gates import AdaptiveAnchors, Gated
from srsoup_lightning.search.pooling import Pooled
from srsoup_lightning.search.resampling import resample
from srsoup_lightning.search.scalarise import Value
from srsoup_lightning.search.selection import Resampling, Selection
from srsoup_lightning.search.shaping import Shaping
from srsoup_lightning.search.sharing import FixedSoup
from srsoup_lightning.search.surrogate import Surrogate

PHASE = "is no phase: give 0 <= start <= end"
THRESHOLD = r"threshold is .*: closeness lies in \[0, 1\]"
RESAMPLER = "resampler is 'residual': choose one of multinomial, systematic, ssp, rounding"
MEASURE = "measure is 'feeling': choose one of previews, means"
BAD = [
    (Selection, {"pool": 1}, "pool is 1: .* at least 2"),
    (Selection, {"start": 0.0}, r"start is 0.0: give a share of the steps in \(0, 1\)"),
    (Selection, {"start": 1.0}, "start is 1.0"),
    *(
        (
            Resampling,
            {"start": a, "stop": b},
            rf"Resampling\({a}, {b}\) is no range of steps: .* 0 <= start < stop <= 1",
        )
        for a, b in ((-0.1, 0.8), (0.5, 0.5), (0.3, 1.1), (math.nan, 0.8))
    ),
    *((Resampling, {"margin": number}, f"margin is {number}: .* at least 0") for number in (-1, math.inf, math.nan)),
    (Surrogate, {"previews": 1}, "previews is 1: .* at least 2 candidates"),
    (Surrogate, {"window": 0}, "window is 0: give at least 1"),
    (Shaping, {"kind": "zscore"}, "shaping is 'zscore': choose one of std, pool, tanh, minmax, ranks"),
    (Shaping, {"top_fraction": 0.0}, r"top_fraction is 0.0: .*\(0, 1\]"),
    *((Shaping, {"top_fraction": number}, f"top_fraction is {number}") for number in (1.1, math.nan)),
    *((FixedSoup, {"start": a, "end": b}, rf"FixedSoup\({a}, {b}\) {PHASE}") for a, b in ((-1, 3), (4, 3), (0, -1))),
    *((Gated, {"threshold": number}, THRESHOLD) for number in (-0.1, 1.1, math.nan)),
    *((AdaptiveAnchors, {"threshold": number}, THRESHOLD) for number in (-0.1, 1.1, math.nan)),
    *((Pooled, {"power": n}, r"power is .*: give a finite number, at least 0") for n in (-0.1, math.inf, math.nan)),
    *((policy, {"measure": "feeling"}, MEASURE) for policy in (Gated, AdaptiveAnchors, Pooled)),
    (partial(Value, None), {"kind": "sum"}, "scalarisation is 'sum': choose one of linear, tchebycheff, ranks"),
    (partial(resample, *torch.zeros(2, 2)), {"resampler": "residual"}, RESAMPLER),
]


@pytest.mark.parametrize(("make", "options", "message"), BAD)
def test_a_bad_option_is_named(make: Callable, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)
