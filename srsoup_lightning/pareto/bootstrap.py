"""Intervals by bootstrap over prompts (Efron 1979, percentile method).

Prompts are what a comparison generalises over: seeds of a prompt are averaged first, for they aren't independent.
All resamples are the same at every call, so that a report is reproducible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

RESAMPLES = 2_000
LEVELS = (0.025, 0.975)


def interval(by_prompt: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Mean over prompts of their means, with its 95 % bootstrap interval over prompts: mean, low and high.

    One prompt says nothing about others: low and high are then the mean.

    Raises:
        ValueError: No prompt, a prompt without values, or a value that isn't finite.
    """
    means = prompt_means(by_prompt)
    low, high = np.quantile(means[resampled(len(means))].mean(1), LEVELS)
    return {"mean": float(means.mean()), "low": float(low), "high": float(high)}


def ratio_interval(above: Mapping[str, Sequence[float]], below: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Ratio of two methods' means over the prompts that both have, with its 95 % interval from resampling those.

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
    """The mean of each prompt's values, in order.

    Raises:
        ValueError: No prompt, a prompt without values, or a value that isn't finite.
    """
    if not by_prompt:
        raise ValueError("no prompt to average over: give at least one")
    for prompt, values in by_prompt.items():
        if not len(values) or not np.isfinite(values).all():
            raise ValueError(f"values of prompt {prompt!r} are {list(values)}: give at least one, all of them finite")
    return np.array([np.mean(values) for values in by_prompt.values()])


def resampled(prompts: int) -> np.ndarray:
    """Indices (RESAMPLES, prompts) drawn with replacement, the same at every call."""
    return np.random.default_rng(0).integers(prompts, size=(RESAMPLES, prompts))
