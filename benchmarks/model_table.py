"""Table of models and cards: ``python -m benchmarks.model_table``. All of it is computed, and nothing is measured.

Each network is made without weights, from the numbers in its config. Its parameters are counted, and so are the
floating point operations of one evaluation for one picture, and of one decode. A soup is the paper's: 30 candidates,
two rewards, six preferences. Its evaluations and decodes are those of a rehearsal. Hours are its operations by the
speed of a card, at 40 % of the published peak in bfloat16 without sparsity. The rewards' time comes on top.

Memory in 16 bits is that of the weights, and of the largest layer's input and output, twice: the other half is for
residuals and workspaces.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from jsonargparse import auto_cli
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.architectures import ARCHITECTURES, Architecture
from srsoup_lightning import Preferences
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.diffusion.loading.meta import largest_layer, meta_backbone, meta_network, parameters
from srsoup_lightning.samplers import FixedSoup, SRSoup
from srsoup_lightning.samplers.rehearsal import count

SHARE = 0.4  # of a card's peak
BYTES, GIGA, TERA = 2, 1e9, 1e12
REWARDS, PREFERENCES, CANDIDATES = ["a", "b"], 6, 30


class Card(NamedTuple):
    """A card by its data sheet: dense bfloat16 operations a second, in tera, and gigabytes of memory."""

    name: str
    peak: float
    memory: float


CARDS = (Card("RTX 4090", 165.2, 24), Card("A100 80 GB", 312, 80), Card("H100 SXM", 989.4, 80))


class Row(NamedTuple):
    """Costs of a soup with a model.

    Attributes:
        architecture: The model.
        sizes: Parameters of each network by component.
        evaluation: Operations of one evaluation of the denoising network, for one picture.
        decode: Operations of one decode.
        layers: Elements of the input and output of the largest layer, for one picture: of the denoising network, and
            of the decoder.
        evaluations: Evaluations of a soup.
        decodes: Decodes of a soup.
    """

    architecture: Architecture
    sizes: dict[str, int]
    evaluation: float
    decode: float
    layers: tuple[int, int]
    evaluations: int
    decodes: int

    @property
    def network(self) -> int:
        """Parameters of the denoising network."""
        return next(size for name, size in self.sizes.items() if name in ("unet", "transformer"))

    @property
    def texts(self) -> list[int]:
        """Parameters of each text encoder."""
        return [size for name, size in self.sizes.items() if name.startswith("text_encoder")]

    def memory(self, batch: int) -> float:
        """Gigabytes at the peak for so many pictures at once, with all networks on the card."""
        return BYTES * (sum(self.sizes.values()) + 2 * batch * max(self.layers)) / GIGA

    def memory_of_one(self, batch: int) -> float:
        """Gigabytes at the peak for so many pictures at once, with one network on the card at a time."""
        weights = (self.network, self.sizes["vae"])
        working = [own + 2 * batch * layer for own, layer in zip(weights, self.layers, strict=True)]
        return BYTES * max(*working, *self.texts) / GIGA

    def hours(self, card: Card) -> float:
        """Hours of a soup."""
        operations = self.evaluations * self.evaluation + self.decodes * self.decode
        return operations / (SHARE * card.peak * TERA) / 3600


def row_of(architecture: Architecture) -> Row:
    """Count a model."""
    networks = {name: meta_network(*network) for name, network in architecture.networks.items()}
    side = architecture.pixels
    backbone = meta_backbone(architecture.pipeline, networks, side, side)
    latents = torch.empty(1, *backbone.latent_shape, dtype=torch.float32, device="meta")
    condition = {
        name: torch.empty(1, *shape, dtype=torch.float32, device="meta")
        for name, shape in architecture.condition.items()
        if name != "lengths"
    }
    if "lengths" in architecture.condition:  # it is on the CPU
        condition["lengths"] = torch.tensor([architecture.condition["states"][0]], dtype=torch.int64)
    with torch.no_grad(), FlopCounterMode(display=False) as evaluation:
        network = largest_layer(backbone.network, lambda: backbone.evaluate(latents, 500.0, condition))
    vae = backbone.pipeline.vae
    with torch.no_grad(), FlopCounterMode(display=False) as decode:
        decoder = largest_layer(vae, lambda: backbone.decode(vae, latents))
    rows = 2 if backbone.guides(architecture.guidance_scale) else 1
    ledger = soup(architecture, rows)
    return Row(
        architecture,
        {name: parameters(network) for name, network in networks.items()},
        evaluation.get_total_flops(),
        decode.get_total_flops(),
        (rows * network, decoder),
        ledger.nfe,
        ledger.decodes,
    )


def soup(architecture: Architecture, evaluations: int) -> Ledger:
    """Costs of the paper's soup with a model that takes so many evaluations for a prediction."""
    sampler = SRSoup(
        num_inference_steps=architecture.steps,
        guidance_scale=5.0 if evaluations == 2 else 1.0,  # of which the rehearsal takes that number
        candidates=CANDIDATES,
        sharing=FixedSoup(0, architecture.soup),
    )
    return count(sampler, Preferences.lattice(REWARDS, PREFERENCES - 1))


def table(rows: list[Row]) -> str:
    """Rows as a table in Markdown."""
    heads = ["model", "pixels", "steps", "weights, 10⁹: network, text encoders", "GB of weights"]
    heads += ["GB at the peak", "GB, `offload: model`", "GB a further picture"]
    heads += ["10¹² operations: evaluation, decode", "evaluations", "decodes"]
    heads += [f"hours, {card.name}" for card in CARDS]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(cells(row)) + " |" for row in rows)]) + "\n"


def cells(row: Row) -> list[str]:
    """Cells of a model."""
    about = row.architecture
    return [
        f"`{about.model}`",
        str(about.pixels),
        str(about.steps),
        f"{row.network / GIGA:.2f}, {sum(row.texts) / GIGA:.2f}",
        f"{BYTES * sum(row.sizes.values()) / GIGA:.1f}",
        f"{row.memory(1):.1f}",
        f"{row.memory_of_one(1):.1f}",
        f"{row.memory(2) - row.memory(1):.1f}",
        f"{row.evaluation / TERA:.2f}, {row.decode / TERA:.2f}",
        f"{row.evaluations:,}",
        f"{row.decodes:,}",
        *(f"{row.hours(card):.2f}" if row.memory_of_one(1) < card.memory else "too large" for card in CARDS),
    ]


def main(out: Path = Path("benchmarks/results/models.md")) -> None:
    """Write the table and show it.

    Args:
        out: File to write.
    """
    out.write_text(table([row_of(architecture) for architecture in ARCHITECTURES]))
    print(out.read_text())


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
