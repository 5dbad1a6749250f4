"""Write the trained networks in fp16 safetensors, with model cards that state their measured quality."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, StableDiffusion3Pipeline, StableDiffusionPipeline
from transformers import CLIPModel, CLIPProcessor

from checkpoints.recipe.evaluate import (
    SEEDS,
    decoded_difference,
    draw_animals,
    picture_accuracy,
    scene_accuracy,
)
from checkpoints.recipe.scenes import ANIMALS, FONT
from checkpoints.recipe.training import save_grid

FRESH_SCENES, FRESH_LATENTS = 2_400, 480
PREVIEW = "tiny-animals-preview"

COMMON = """
## Data
Scenes drawn by `checkpoints/recipe/scenes.py` from the sprites of the font Noto Color Emoji (SIL Open Font License
1.1): one to three animals of a kind, varied in size, place, flip and tilt, on plain, graded, striped, checked and noisy
backgrounds of ten colours. Captions name a part of this ("a lobster", "two cats on a blue striped background").
There are {animals} animals: {names}.

## How it was made
By `make checkpoints`, that is `python -m checkpoints.recipe`, with the seeds and schedules that are the defaults of the
command. It runs on a CPU or GPU, and continues where it was stopped. tiny-clip and the autoencoder took about an hour
on two shared cores of an AMD EPYC (Zen 4). The decoder and the UNet, side by side, took an hour and a half on two
shared cores of an Intel Xeon with AMX, in bfloat16 autocast.

A rerun will not give equal weights to the last bit, for four reasons. tiny-clip saw "a octopus" where the recipe now
says "an octopus". tiny-clip and the autoencoder were trained before AdamW was fused. The later stages started from
their weights in fp16. The decoder's schedule was shortened from 14,000 to 9,000 steps half way.

## Licence
The weights: Apache-2.0. The sprites that they were trained on: SIL Open Font License 1.1, copyright Google.

It is made for demonstrations, tests and research on samplers. It knows only these scenes.
"""

CLIP_CARD = """# tiny-clip

A complete `CLIPModel` of transformers for 64-pixel pictures of animals, with 2.3 million parameters. It scores the
prompt fidelity of [tiny-animals](../tiny-animals), whose text encoder is its text tower.

```python
CLIPScore("tiny-clip").score(images, prompts)  # rewards.CLIPScore: 100 x cosine
```

## Measured quality
Zero-shot top-1 accuracy among the {animals} animals on {scenes:,} fresh scenes: **{accuracy:.1%}**. The embedding of an
animal is the mean of its captions with one, two and three of a kind.
"""

PIPELINE_CARD = """# tiny-animals

A complete `StableDiffusionPipeline` of diffusers that draws 64-pixel pictures of animals: a UNet of {unet:.1f}
million parameters that predicts the velocity of 4 x 16 x 16 latents, an AutoencoderKL of {vae:.1f} million, and the
text tower of [tiny-clip](../tiny-clip). It is small enough for a search on the CPU of a laptop.

```python
pipeline = StableDiffusionPipeline.from_pretrained("checkpoints/tiny-animals", dtype=torch.float32)
pipeline("a lobster", guidance_scale=5.0, eta=1.0).images[0]
```

![Two pictures of every animal](grid.png)

## Measured quality
Measured on pictures of "a <animal>", {seeds} seeds each, 50 DDIM steps with eta 1, guidance 5. In **{accuracy:.1%}** of
them, tiny-clip ranks the animal first among all {animals}. The weakest animals are: {weakest}. The grid shows two
seeds of each animal, unselected.
"""

PREVIEW_CARD = """# tiny-animals-preview

An `AutoencoderTiny` of diffusers with a decoder of {parameters:,} parameters for the latents of
[tiny-animals](../tiny-animals). It decodes the pictures that only rewards see, and is faster than the pipeline's own
decoder. Its encoder is untrained.

```python
Loading(preview_decoder="tiny-animals-preview")  # srsoup_lightning.Loading, or loading.preview_decoder in a config
```

## Measured quality
Measured on latents of {scenes:,} fresh scenes, of which every second one is a mixture of two. The mean absolute
difference of its pictures from those of the pipeline is **{difference:.1f}** of 255.

## How it was made
It was distilled from the pipeline's decoder by `python -m checkpoints.recipe`, stage `preview`, with the seed and the
schedule that are the defaults of the command.

## Licence
The weights: Apache-2.0. The sprites that they were trained on: SIL Open Font License 1.1, copyright Google.
"""

FLOW_CARD = """# tiny-animals-flow

A complete `StableDiffusion3Pipeline` of diffusers that draws 64-pixel pictures of animals: a rectified flow with an
SD3Transformer2DModel of {transformer:.1f} million parameters, the autoencoder of [tiny-animals](../tiny-animals), and
the text tower of [tiny-clip](../tiny-clip) twice, the second time its first layer alone. There is no third text
encoder. All files together have {size:.1f} MB.

```python
options = dict(text_encoder_3=None, tokenizer_3=None, dtype=torch.float32)
pipeline = StableDiffusion3Pipeline.from_pretrained("checkpoints/tiny-animals-flow", **options)
pipeline("a lobster", num_inference_steps=20, guidance_scale=5.0).images[0]
```

![Two pictures of every animal](grid.png)

## Measured quality
Measured on pictures of "a <animal>", {seeds} seeds each, 20 steps of the plain flow, guidance 5. In **{accuracy:.1%}**
of them, tiny-clip ranks the animal first among all {animals}. The weakest animals are: {weakest}. The grid shows two
seeds of each animal, unselected.

## Data
The scenes of [tiny-animals](../tiny-animals).

## How it was made
By `python -m checkpoints.recipe`, stages `flow` and `export_flow`, in float32 on a CPU, in three parts. The first one
was a run whose schedule did not come to its end. Each of the others began with the weights of the one before, by
`--flow_start`, and had a schedule of its own, with 4,000 and with 5,500 steps:
`--flow '{{scenes: 24000, steps: 4000, batch_size: 32, learning_rate: 0.0006}}'`. They took two hours on one shared core
of an AMD EPYC. A rerun with the defaults of the command trains 12,000 steps from nothing, and will not give equal
weights.

## Licence
The weights: Apache-2.0. The sprites that they were trained on: SIL Open Font License 1.1, copyright Google.
"""


def export(
    clip_folder: Path, autoencoder_folder: Path, pipeline_folder: Path, checkpoints: Path, font: Path = FONT
) -> None:
    """Write `checkpoints`/tiny-clip and tiny-animals, with the refined autoencoder, and measure the written files."""
    tiny_clip, tiny_animals = checkpoints / "tiny-clip", checkpoints / "tiny-animals"
    CLIPModel.from_pretrained(clip_folder).half().save_pretrained(tiny_clip)
    CLIPProcessor.from_pretrained(clip_folder).save_pretrained(tiny_clip)
    autoencoder = AutoencoderKL.from_pretrained(autoencoder_folder, torch_dtype=torch.float16)
    pipeline = StableDiffusionPipeline.from_pretrained(pipeline_folder, vae=autoencoder, torch_dtype=torch.float16)
    pipeline.save_pretrained(tiny_animals)
    (tiny_animals / "animals.txt").write_text("\n".join(ANIMALS) + "\n")
    written = StableDiffusionPipeline.from_pretrained(tiny_animals, dtype=torch.float32, use_safetensors=True)
    pictures = draw_animals(written, 50, eta=1.0)
    save_grid(pictures[:2].transpose(0, 1).flatten(0, 1), tiny_animals / "grid.png", columns=12)
    right = picture_accuracy(tiny_clip, pictures)
    names = ", ".join(ANIMALS)
    common = COMMON.format(animals=len(ANIMALS), names=names)
    accuracy = scene_accuracy(tiny_clip, FRESH_SCENES, font)
    card = CLIP_CARD.format(animals=len(ANIMALS), scenes=FRESH_SCENES, accuracy=accuracy)
    (tiny_clip / "README.md").write_text(card + common)
    weakest = sorted(right, key=right.__getitem__)[:3]
    card = PIPELINE_CARD.format(
        unet=_millions(pipeline.unet),
        vae=_millions(pipeline.vae),
        seeds=SEEDS,
        animals=len(ANIMALS),
        accuracy=sum(right.values()) / len(right),
        weakest=", ".join(f"{animal} ({right[animal]:.0%})" for animal in weakest),
    )
    (tiny_animals / "README.md").write_text(card + common)


def _millions(network: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


def export_preview(folder: Path, checkpoints: Path, font: Path = FONT) -> None:
    """Write `checkpoints`/tiny-animals-preview for the tiny-animals beside it, and measure the written files."""
    target = checkpoints / PREVIEW
    AutoencoderTiny.from_pretrained(folder, torch_dtype=torch.float16).save_pretrained(target)
    decoder = AutoencoderTiny.from_pretrained(target, torch_dtype=torch.float32).decoder
    card = PREVIEW_CARD.format(
        parameters=sum(parameter.numel() for parameter in decoder.parameters()),
        scenes=FRESH_LATENTS,
        difference=decoded_difference(target, checkpoints / "tiny-animals" / "vae", FRESH_LATENTS, font),
    )
    (target / "README.md").write_text(card)


def export_flow(folder: Path, checkpoints: Path) -> None:
    """Write `checkpoints`/tiny-animals-flow, and measure the written files by the tiny-clip beside it."""
    target = checkpoints / "tiny-animals-flow"
    without = {"text_encoder_3": None, "tokenizer_3": None, "use_safetensors": True}
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, dtype=torch.float16, **without)
    pipeline.save_pretrained(target)
    written = StableDiffusion3Pipeline.from_pretrained(target, dtype=torch.float32, **without)
    pictures = draw_animals(written, 20)
    save_grid(pictures[:2].transpose(0, 1).flatten(0, 1), target / "grid.png", columns=12)
    right = picture_accuracy(checkpoints / "tiny-clip", pictures)
    weakest = sorted(right, key=right.__getitem__)[:3]
    card = FLOW_CARD.format(
        transformer=_millions(pipeline.transformer),
        seeds=SEEDS,
        animals=len(ANIMALS),
        accuracy=sum(right.values()) / len(right),
        weakest=", ".join(f"{animal} ({right[animal]:.0%})" for animal in weakest),
        size=sum(path.stat().st_size for path in target.rglob("*") if path.is_file()) / 1e6,
    )
    (target / "README.md").write_text(card)
