"""The backbone that docs/adding-a-model.md shows, taken from the page, against its pipeline."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel, FlowMatchEulerDiscreteScheduler
from transformers import T5Config, UMT5EncoderModel

from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from tests.diffusion.conftest import autoencoder, heavy
from tests.diffusion.drawing import Way, by_pipeline, by_sampler
from tests.diffusion.pipelines import prepared, t5_tokenizer

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-model.md"


def shown_backbone() -> type[PipelineBackbone]:
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert code is not None
    names: dict[str, type[PipelineBackbone]] = {}
    exec(code[1], names)
    return names["AuraFlow"]


def aura_flow() -> AuraFlowPipeline:
    torch.manual_seed(0)
    transformer = AuraFlowTransformer2DModel(
        sample_size=8,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pos_embed_max_size=64,
    )
    pipeline = AuraFlowPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=UMT5EncoderModel(
            T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0)
        ),
        vae=autoencoder(4),
        transformer=heavy(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.73),
    )
    return prepared(pipeline)


def test_the_page_s_backbone_draws_the_pipeline_s_own_picture() -> None:
    backbone, way = shown_backbone()(aura_flow(), height=16, width=16), Way()
    expected = by_pipeline(backbone, way)
    assert expected.std() > 0.01
    torch.testing.assert_close(by_sampler(backbone, way), expected, rtol=0, atol=1e-4)
    assert (by_sampler(backbone, way, "a photo of a dog") - expected).abs().max() > 1e-3
