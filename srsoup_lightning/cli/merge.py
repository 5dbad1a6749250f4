"""``srsoup merge``: a weighted mean of adapters as one adapter."""

from __future__ import annotations

import json
from collections import defaultdict
from math import isfinite
from pathlib import Path

from torch import Tensor

from rewards.checks import first_line, require_choice
from srsoup_lightning.diffusion.loading.lora_files import METADATA, header_of
from srsoup_lightning.diffusion.lora_merging import Average, Factors, mean_of_factors, mean_of_products
from srsoup_lightning.diffusion.preference_input import PREFERENCE_INPUT
from srsoup_lightning.runs.adapter import WEIGHTS, AdapterFacts, read_facts, write_adapter

DOWN, UP = ".lora_A.weight", ".lora_B.weight"


def merge(
    adapters: dict[str, float],
    out: str,
    average: Average = "products",
    rank: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write a weighted mean of adapters of ``srsoup fit`` as one adapter.

    Its file says what all the trainings cost together. A fit can start from it by ``training.lora.start``: repeated
    rounds of training one adapter for each reward and merging them are MapReduce LoRA (arXiv:2511.20629).

    Args:
        adapters: Weight of each adapter, by its folder.
        out: Folder of the merged adapter.
        average: "products" averages what the adapters add to the weights, exactly. "factors" averages their matrices A
            and B one by one, as others do; it is for comparison.
        rank: Largest rank of a mean of products. None is the sum of the ranks, where the mean is exact.
        overwrite: Replace an adapter that `out` holds.

    Raises:
        FileNotFoundError: There is no such adapter.
        FileExistsError: `out` holds an adapter.
        ValueError: An adapter is damaged, takes a preference as its input, or is of another base or of other layers
            than the others; or a weight or the rank is outside its range.
    """
    require_choice("average", average, Average)
    if not adapters:
        raise ValueError("adapters are empty: give {folder: weight} for each")
    if rank is not None and (rank < 1 or average == "factors"):
        raise ValueError(f"rank is {rank}: give at least 1, and leave it out for a mean of factors")
    if unusable := [weight for weight in adapters.values() if not isfinite(weight)]:
        raise ValueError(f"the weight of an adapter is {unusable[0]}: give a finite number")
    folder = Path(out)
    if (folder / WEIGHTS).exists() and not overwrite:
        raise FileExistsError(f"{out} holds an adapter: give another --out, or --overwrite true to replace it")
    layers = [_layers(source) for source in adapters]
    for source, found in zip(adapters, layers, strict=True):
        if found.keys() != layers[0].keys():
            raise ValueError(
                f"adapter {source!r} adapts other layers than {next(iter(adapters))!r}: merge none of both"
            )
    weights = list(adapters.values())
    merged: dict[str, Tensor] = {}
    for layer in layers[0]:
        parts = [found[layer] for found in layers]
        mean = mean_of_products(parts, weights, rank) if average == "products" else mean_of_factors(parts, weights)
        merged |= {layer + DOWN: mean.down, layer + UP: mean.up}
    write_adapter(folder, merged, _metadata(next(iter(adapters)), merged), _facts(adapters, average))


def _layers(source: str) -> dict[str, Factors]:
    """Factors of each layer, by its name, with the scale in the matrix B."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = Path(source) / WEIGHTS
    if not file.is_file():
        raise FileNotFoundError(f"no adapter {source!r}: give the folder of {WEIGHTS}")
    header = header_of(file)
    if PREFERENCE_INPUT in header:
        raise ValueError(f"adapter {source!r} takes a preference as its input, so it serves all of them: leave it out")
    try:
        state, config = load_file(file), json.loads(header[METADATA])
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{file} is damaged, or not of srsoup fit ({first_line(error)}): train it anew") from None
    numbers = {key.rpartition(".")[2]: value for key, value in config.items()}
    if numbers.get("rank_pattern") or numbers.get("alpha_pattern"):
        raise ValueError(f"adapter {source!r} has ranks or alphas of single layers: merge those of one rank and alpha")
    scale = numbers["lora_alpha"] / numbers["r"]
    names = [key.removesuffix(DOWN) for key in state if key.endswith(DOWN)]
    return {name: Factors(state[name + DOWN], scale * state[name + UP]) for name in names}


def _metadata(source: str, merged: dict[str, Tensor]) -> dict[str, str]:
    """Metadata of an adapter whose scale is 1, like those of the first of its sources."""
    ranks = {len(weight) for key, weight in merged.items() if key.endswith(DOWN)}
    config = json.loads(header_of(Path(source) / WEIGHTS)[METADATA])
    own = {"r": max(ranks), "lora_alpha": max(ranks)}
    packed = {key: own.get(key.rpartition(".")[2], value) for key, value in config.items()}
    return {"format": "pt", METADATA: json.dumps(packed, sort_keys=True)}


def _facts(adapters: dict[str, float], average: Average) -> AdapterFacts:
    """Origin of a merged adapter: the costs of all trainings, and the mean of their preferences."""
    origins: dict[str, AdapterFacts] = {}
    for source in adapters:
        if (origin := read_facts(Path(source))) is None:
            raise ValueError(f"adapter {source!r} has no adapter.json, so its base and costs are unknown: give others")
        origins[source] = origin
    if len(bases := sorted({each.base for each in origins.values()})) > 1:
        raise ValueError(f"the adapters are of different bases, {', '.join(bases)}: merge those of one base")
    total, preference = sum(adapters.values()) or 1.0, defaultdict[str, float](float)
    for source, origin in origins.items():
        for name, share in origin.preference.items():
            preference[name] += adapters[source] * share / total
    return AdapterFacts(
        base=bases[0],
        objective=f"mean of {average} of {' + '.join(sorted({each.objective for each in origins.values()}))}",
        preference=dict(preference),
        rounds=sum(each.rounds for each in origins.values()),
        earlier={trained: costs for source, each in origins.items() for trained, costs in each.behind(source).items()},
    )
