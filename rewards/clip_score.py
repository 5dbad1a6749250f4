"""CLIPScore: the fit of an image to its prompt."""

from __future__ import annotations

from pathlib import Path

from rewards.clip_reward import CLIPReward, load_clip_from
from rewards.networks.clip import CLIP, SIGLIP
from rewards.networks.loading import Dtype


class CLIPScore(CLIPReward):
    """100 times the cosine between CLIP's, or SigLIP's, embeddings of an image and of its prompt.

    Hessel et al. 2021, "CLIPScore: a reference-free evaluation metric for image captioning", arXiv:2104.08718, define
    ``2.5 max(cos, 0)``; this is ``100 cos`` without a clamp, the unit of torchmetrics' ``CLIPScore``. Values lie in
    ``[-100, 100]``, with OpenAI's networks mostly between 10 and 40. Gradients reach the pixels. Prompts longer than
    the network's text length are cut.

    SigLIP (Zhai et al. 2023, arXiv:2303.15343) and SigLIP 2 of fixed resolution (Tschannen et al. 2025,
    arXiv:2502.14786) are named by their hub ids, such as "google/siglip2-so400m-patch14-384". The unit stays 100 times
    the cosine, of which their own probability, ``sigmoid(exp(logit_scale) cos + logit_bias)``, is an increasing
    function. Their values can't be compared with CLIP's. Prompts are
    lower-cased and padded to the full length, and images are squeezed into a square, as in their training. NaFlex
    checkpoints, of type "siglip2", are refused. SigLIP was compared with ``SiglipModel`` and its image processor, on
    random weights only. The tokenizer of its first generation needs ``pip install sentencepiece protobuf``.

    Args:
        model: Hub id or local folder of a ``CLIPModel`` or ``SiglipModel`` with safetensors weights, or the name of a
            builtin checkpoint such as "tiny-clip".
        dtype: Precision of the network; autocast around a call does not change it. Scores are float32.
        revision: Commit, tag or branch of the model on the hub; by default its main branch as of today.
        processor: Hub id or folder of tokenizer and image preprocessing; by default the model's own.
        processor_revision: Commit, tag or branch of the processor on the hub.

    Raises:
        FileNotFoundError: If there is no such model, or no preprocessing.
        ValueError: If the folder is no CLIP or SigLIP model with complete, finite safetensors weights, or the dtype is
            none of those, or a revision is given for a folder.
        ModuleNotFoundError: If transformers, or what the tokenizer needs, is not installed.

    Example:
        >>> clip = CLIPScore("openai/clip-vit-base-patch32")  # doctest: +SKIP
        >>> clip.score(torch.rand(1, 3, 512, 512), ["coloured noise"]).shape  # doctest: +SKIP
        torch.Size([1])
    """

    def __init__(
        self,
        model: str | Path = "openai/clip-vit-large-patch14",
        dtype: Dtype = "float32",
        revision: str | None = None,
        processor: str | Path | None = None,
        processor_revision: str | None = None,
    ) -> None:
        super().__init__(load_clip_from(model, dtype, revision, processor, processor_revision, allowed=(CLIP, SIGLIP)))

    def _scale(self) -> float:
        return 100.0
