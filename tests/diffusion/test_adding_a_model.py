"""The backbone that docs/adding-a-model.md shows, taken from the page, against its pipeline."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel, FlowMatchEulerDiscreteScheduler
from transformers import UMT5EncoderModel

from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from tests.diffusion.conftest import autoencoder, heavy, prepared, same_picture
from tests.diffusion.drawing import Way, by_pipeline, by_sampler
from tests.diffusion.pipelines import t5, t5_tokenizer

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-model.md"


def shown_backbone() -> type[PipelineBackbone]:
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert code is not None
    names: dict[str, type[PipelineBackbone]] = {}
    exec(code[1], names)
    return names["AuraFlow"]


def aura_flow() -> AuraFlowPipeline:
    torch.manual_seed(0)
    layers = {"num_mmdit_layers": 1, "num_single_dit_layers": 1, "attention_head_dim": 8, "num_attention_heads": 4}
    width = {"joint_attention_dim": 32, "caption_projection_dim": 32, "pos_embed_max_size": 64, "sample_size": 8}
    pipeline = AuraFlowPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5(kind=UMT5EncoderModel),
        vae=autoencoder(4),
        transformer=heavy(AuraFlowTransformer2DModel(**layers, **width)),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.73),
    )
    return prepared(pipeline)


def test_the_page_s_backbone_draws_the_pipeline_s_own_picture() -> None:
    backbone, way = shown_backbone()(aura_flow(), height=16, width=16), Way()
    expected = by_pipeline(backbone, way)
    assert expected.std() > 0.01
    same_picture(by_sampler(backbone, way), expected)
    assert (by_sampler(backbone, way, "a photo of a dog") - expected).abs().max() > 1e-3
