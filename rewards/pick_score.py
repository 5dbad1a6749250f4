"""PickScore: people's choice between images for a prompt."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from rewards.base import at_least_float32
from rewards.clip_reward import CLIPReward, load_clip_from
from rewards.networks.clip import CLIP_H
from rewards.networks.loading import Dtype


class PickScore(CLIPReward):
    """CLIP's logit of a network trained on which of two images people picked: ``exp(logit_scale) * cos``.

    Kirstain et al. 2023, "Pick-a-Pic: an open dataset of user preferences for text-to-image generation",
    arXiv:2305.01569. The difference of two images' scores is the log-odds that people prefer the first. Values lie in
    ``[-s, s]`` with ``s = exp(logit_scale)``, about 100 in CLIP's networks. Those of generated images are mostly
    reported between 18 and 24, and one point is a large difference. Gradients reach the pixels.
    Prompts longer than the network's text length are cut.

    The published weights are a CLIP ViT-H/14 under the MIT licence, so far as known: read their card. None of
    this was compared with them, only with the published formula on random weights.

    Args:
        model: Hub id or local folder of a ``CLIPModel`` with safetensors weights, or the name of a builtin checkpoint.
        dtype: Precision of the network; autocast around a call does not change it. Scores are float32. In bfloat16 the
            logit scale is rounded too, which stretches all scores by up to 1.6 %.
        revision: Commit, tag or branch of the model on the hub; by default its main branch as of today.
        processor: Hub id or folder of tokenizer and image preprocessing. By default a local model's own, and for models
            of the hub that of the authors' example, "laion/CLIP-ViT-H-14-laion2B-s32B-b79K".
        processor_revision: Commit, tag or branch of the processor on the hub.

    Raises:
        FileNotFoundError: If there is no such model, or no preprocessing.
        ValueError: If the folder is no CLIP model with complete, finite safetensors weights, or the dtype is none of
            those, or a revision is given for a folder.
        ModuleNotFoundError: If transformers is not installed.

    Example:
        >>> pick = PickScore()  # doctest: +SKIP
        >>> pick.score(torch.rand(1, 3, 512, 512), ["coloured noise"]).shape  # doctest: +SKIP
        torch.Size([1])
    """

    def __init__(
        self,
        model: str | Path = "yuvalkirstain/PickScore_v1",
        dtype: Dtype = "float32",
        revision: str | None = None,
        processor: str | Path | None = None,
        processor_revision: str | None = None,
    ) -> None:
        super().__init__(load_clip_from(model, dtype, revision, processor, processor_revision, CLIP_H))

    def _scale(self) -> Tensor:
        return at_least_float32(self._clip.logit_scale).exp()
