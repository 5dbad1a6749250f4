"""Settings and results of a run as hyperparameters and metrics, with the same keys for every method."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

import torch

from srsoup_lightning.pareto import utility
from srsoup_lightning.report.measures import Weights, mean_hypervolume, mean_rewards
from srsoup_lightning.report.run_tables import total_costs
from srsoup_lightning.report.units import Box, box_units
from srsoup_lightning.runs.adapter import UsedAdapter
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.identity import operational_options, read_identity
from srsoup_lightning.runs.reading import Run
from srsoup_lightning.runs.rows import total

Value = float | str
HYPERVOLUME, UTILITY = "hypervolume", "utility"
METHOD = "method"
OWN_KEYS = {"num_inference_steps", "guidance_scale"}


def settings_of(sampler: Any, model: str, method: str, number: int) -> dict[str, Value]:  # noqa: ANN401 - any method
    """Return the settings of a run, with the same keys for every method.

    Args:
        sampler: Method, a dataclass with the options of a denoising process.
        model: Name of the model.
        method: Name of the method; see :func:`method_name`.
        number: Number of the method, by which plots can be coloured.
    """
    return {
        METHOD: method,
        f"{METHOD} number": number,
        "guidance": sampler.guidance_scale,
        "model": model,
        "steps": sampler.num_inference_steps,
        "with options": ", ".join(_told_options(sampler)),
    }


def method_name(description: Mapping[str, Any], adapters: Iterable[UsedAdapter] = ()) -> str:
    """Return the class of a method, with that of its first component, and the objectives of its LoRAs.

    Examples are "SRSoup (FixedSoup)", and "BaseModel + PolicyGradient" for pictures of a tuned model.

    Args:
        description: Description of the method; see :func:`~srsoup_lightning.runs.identity.described`.
        adapters: LoRAs that the pictures are made with.
    """
    components = [each for each in description.values() if isinstance(each, Mapping) and "class" in each]
    trained = dict.fromkeys("LoRA" if each.facts is None else each.facts.objective for each in adapters)
    return " + ".join([_class(description) + "".join(f" ({_class(each)})" for each in components[:1]), *trained])


def method_of(run: Run) -> str:
    """Return the name of the method of a run directory, or "" where the directory does not tell it.

    Raises:
        ValueError: run.json is damaged.
    """
    identity = read_identity(RunDirectory(run.root).identity)
    return "" if identity is None else method_name(identity.facts.get("sampler", {"class": ""}), run.adapters)


def metrics_of(run: Run, box: Box | None) -> dict[str, float]:
    """Return the results of a run: rewards, measures of the front, and mean costs of a soup.

    Rewards are means over all pictures, and those of the preference that is best for the reward.

    Args:
        run: The run, with at least one image.
        box: Box in whose units hypervolume and utility are. None leaves both out, for in the extremes of a run itself
            they would not compare with those of another run.
    """
    means, spent = mean_rewards(run), total(run.costs)
    found = {name: sum(row.rewards[name] for row in run.images) / len(run.images) for name in run.scored}
    if box is not None:
        found |= {HYPERVOLUME: mean_hypervolume(run, box), UTILITY: _mean_utility(run, means, box)}
    if run.costs:
        found |= {name: count / len(run.costs) for name, count in total_costs(spent).items()}
    return found | {f"best {name}": max(scores[name] for scores in means.values()) for name in run.scored}


def metric_names(rewards: tuple[str, ...]) -> list[str]:
    """Return the names of all metrics that a run with these rewards can have, in the order of :func:`metrics_of`."""
    return [*rewards, HYPERVOLUME, UTILITY, *total_costs(total(())), *(f"best {name}" for name in rewards)]


def _mean_utility(run: Run, means: Mapping[Weights, Mapping[str, float]], box: Box) -> float:
    """Return the mean utility of the preferences in units of the box. Pictures without a preference have none."""
    known = {weights: scores for weights, scores in means.items() if weights}
    points = torch.tensor([[scores[name] for name in run.rewards] for scores in known.values()], dtype=torch.float64)
    scale = box_units(run, box, "").scales[run.prompts[0]]
    return float(utility(scale.standardise(points), torch.tensor(list(known), dtype=torch.float64)).mean())


def _told_options(value: Any) -> Iterator[str]:  # noqa: ANN401 - any dataclass
    """Tell the options of a method or a component that change its pictures and are not as by default.

    Options with keys of their own are left out, and tables, which units of rewards are.
    """
    for option in fields(value):
        given = getattr(value, option.name)
        hidden = option.name in operational_options(type(value)) | OWN_KEYS or isinstance(given, Mapping)
        if not hidden and given != _default(option):
            yield f"{option.name} {_told(given)}"


def _told(value: object) -> str:
    if is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__name__}({', '.join(_told_options(value))})"
    return str(value)


def _default(option: Field[Any]) -> object:
    return option.default if option.default_factory is MISSING else option.default_factory()


def _class(description: Mapping[str, Any]) -> str:
    return str(description["class"]).rpartition(".")[2]
