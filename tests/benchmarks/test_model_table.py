"""The table of models: its counts are those of real networks, and docs/models.md has it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.architectures import ARCHITECTURES
from benchmarks.model_table import CARDS, Row, cells
from srsoup_lightning import Preferences
from srsoup_lightning.builtin import PIPELINES
from srsoup_lightning.diffusion.loading.meta import largest_layer, meta_backbone, meta_network, parameters
from srsoup_lightning.samplers import SRSoup
from srsoup_lightning.samplers.rehearsal import count
from tests.config_twins import settings_of
from tests.diffusion.conftest import load

ROOT = Path(__file__).parents[2]
PUBLISHED = {  # numbers of weights, as authors or sizes of files tell
    "stable-diffusion-v1-5/stable-diffusion-v1-5": (859_520_964, 83_653_863, 123_060_480),
    "stabilityai/stable-diffusion-xl-base-1.0": (2_567_463_684, 83_653_863, 123_060_480, 694_659_840),
    "Qwen/Qwen-Image": (20_430_401_088,),
}


@pytest.mark.parametrize("name", ["tiny-animals", "tiny-animals-flow"])
def test_networks_without_weights_count_as_the_real_ones(name: str) -> None:
    """Their weights as in the files, and the operations and the largest layer as in a real evaluation and decode."""
    folder, networks = PIPELINES.find(name), {}
    index = json.loads((folder / "model_index.json").read_text())
    for file in sorted(folder.glob("*/*.safetensors")):
        component = file.parent.name
        config = json.loads((file.parent / "config.json").read_text())
        networks[component] = meta_network(index[component][1], config)
        with safe_open(file, "pt") as weights:
            assert parameters(networks[component]) == sum(weights.get_tensor(key).numel() for key in [*weights.keys()])
    real = load(name)
    condition = real.encode_prompt("a cat", "", guided=False, guidance_scale=1.0)
    counted = []
    for backbone, device in ((real, "cpu"), (meta_backbone(index["_class_name"], networks), "meta")):
        x, given = torch.zeros(1, *backbone.latent_shape, device=device), condition
        given = {each: torch.zeros_like(value, device=device) for each, value in given.items()}
        decoder = backbone.pipeline.vae
        # The fast attention of CPUs is not among the operations that PyTorch counts.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as operations:
            backbone.evaluate(x, 500.0, given)
            layer = largest_layer(decoder, lambda b=backbone, d=decoder, latents=x: b.decode(d, latents))
        counted.append((operations.get_total_flops(), layer))
    assert counted[0] == counted[1]
    assert min(counted[0]) > 0


def test_published_models_have_the_published_numbers_of_weights() -> None:
    found = {
        each.model: tuple(parameters(meta_network(*network)) for network in each.networks.values())
        for each in ARCHITECTURES
        if each.model in PUBLISHED
    }
    assert {model: numbers[: len(PUBLISHED[model])] for model, numbers in found.items()} == PUBLISHED


def test_a_row_reckons_with_its_counts_and_the_soups_of_the_configs() -> None:
    sizes, layers = {"unet": 10**9, "text_encoder": 2 * 10**9, "vae": 10**7}, (10**8, 3 * 10**8)
    row = Row(ARCHITECTURES[0], sizes, 1e12, 2e12, layers, 66, 33)
    assert row.memory(2) == pytest.approx(2 * (3.01 + 2 * 2 * 0.3))
    assert [row.memory_of_one(batch) for batch in (1, 4)] == pytest.approx([2 * 2, 2 * (0.01 + 2 * 4 * 0.3)])
    assert row.hours(CARDS[0]) == pytest.approx(132 / (0.4 * 165.2) / 3600)
    assert cells(row)[-3:] == ["0.00"] * 3
    assert cells(row._replace(sizes={"unet": 20 * 10**9, "vae": 0}))[-3:] == ["too large", "0.00", "0.00"]


def test_the_page_has_the_table_and_its_soups_are_those_of_the_configs() -> None:
    table = (ROOT / "benchmarks" / "results" / "models.md").read_text()
    assert table in (ROOT / "docs" / "models.md").read_text()
    lines = {each.model: line for each, line in zip(ARCHITECTURES, table.splitlines()[2:], strict=True)}
    for name in ("sd15_aesthetic_hps", "sdxl_aesthetic_hps", "sd35_aesthetic_pick"):
        model = settings_of(name)["model"]
        given = model["sampler"]["init_args"] | {"sharing": None}
        sharing = SRSoup().sharing.__class__(**model["sampler"]["init_args"]["sharing"]["init_args"])
        ledger = count(SRSoup(**given | {"sharing": sharing}), Preferences.lattice(["a", "b"], 5))
        assert f"| {ledger.nfe:,} | {ledger.decodes:,} |" in lines[model["pipeline"]]
