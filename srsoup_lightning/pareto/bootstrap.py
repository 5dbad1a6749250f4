"""Intervals by bootstrap over prompts (Efron 1979, percentile method).

A comparison is to hold for other prompts, so prompts are resampled. The seeds of a prompt are averaged first, because
they aren't independent. All resamples are the same at every call, so that a report is reproducible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

RESAMPLES = 2_000
LEVELS = (0.025, 0.975)


def interval(by_prompt: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the mean over prompts of their means, and its 95 % bootstrap interval: mean, low and high.

    With a single prompt, low and high are the mean.

    Raises:
        ValueError: There is no prompt, a prompt has no values, or a value isn't finite.
    """
    means = prompt_means(by_prompt)
    low, high = np.quantile(means[resampled(len(means))].mean(1), LEVELS)
    return {"mean": float(means.mean()), "low": float(low), "high": float(high)}


def ratio_interval(above: Mapping[str, Sequence[float]], below: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the ratio of two methods' means over the prompts that both have, and its 95 % bootstrap interval.

    Raises:
        ValueError: No prompt in common, a prompt without values, or a value that isn't finite.
    """
    prompts = [prompt for prompt in below if prompt in above]
    numerator = prompt_means({prompt: above[prompt] for prompt in prompts})
    denominator = prompt_means({prompt: below[prompt] for prompt in prompts})
    draws = resampled(len(prompts))
    low, high = np.quantile(numerator[draws].mean(1) / denominator[draws].mean(1), LEVELS)
    return {"mean": float(numerator.mean() / denominator.mean()), "low": float(low), "high": float(high)}


def prompt_means(by_prompt: Mapping[str, Sequence[float]]) -> np.ndarray:
    """Return the mean (P,) of the values of each of P prompts, in order.

    Raises:
        ValueError: There is no prompt, a prompt has no values, or a value isn't finite.
    """
    if not by_prompt:
        raise ValueError("no prompt to average over: give at least one")
    for prompt, values in by_prompt.items():
        if not len(values) or not np.isfinite(values).all():
            raise ValueError(f"values of prompt {prompt!r} are {list(values)}: give at least one, all of them finite")
    return np.array([np.mean(values) for values in by_prompt.values()])


def resampled(prompts: int) -> np.ndarray:
    """Return indices (RESAMPLES, prompts) drawn with replacement, the same at every call."""
    return np.random.default_rng(0).integers(prompts, size=(RESAMPLES, prompts))
