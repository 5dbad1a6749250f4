"""ImageReward: people's preference between images for a prompt, by one network of image and prompt together."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from rewards.base import Reward, at_least_float32, require_batch
from rewards.clip_reward import pixel_values
from rewards.networks.blip import blip_scorer
from rewards.networks.clip_pixels import CLIPPixels
from rewards.networks.loading import Dtype, load_preprocessing, torch_dtype
from rewards.networks.source import Source
from rewards.networks.weight_file import read_weights

_MEAN, _STD = 0.16717362830052426, 1.0333394966054072
_LENGTH = 35


class ImageReward(Reward):
    """The score of a BLIP network trained on people's rankings of images, in standard deviations.

    Xu et al. 2023, "ImageReward: learning and evaluating human preferences for text-to-image generation", NeurIPS 2023,
    arXiv:2304.05977: ``(MLP(t) - 0.167) / 1.033``, where ``t`` is the output of BLIP's text encoder at the first token
    of the prompt, with cross attention to the image. Values have no limit. The constants give the authors' images mean
    0 and standard deviation 1, so most values are between -2 and 2. Gradients reach the pixels. Prompts are cut after
    35 tokens, about 25 words.

    Images are framed as by CLIP. The authors' crop of an image that is not square may differ by one pixel.

    Code and weights are under Apache-2.0, so far as known. Formula and file format were compared with a forward pass
    written from the published description, on random weights with the official keys. The real file was not tested.

    Args:
        weights: A local file, or "organisation/repository/file" on the hub. Either ``.safetensors`` or the official
            ``.pt``, both with the keys ``blip.visual_encoder.*``, ``blip.text_encoder.*`` and ``mlp.layers.*``.
        sha256: The file's checksum. A ``.pt`` is a pickle: it is opened only with a checksum, and only for tensors.
            ``sha256sum FILE`` prints it for a copy that you trust. The hub shows it on a file's page.
        dtype: Precision of the encoders; autocast around a call does not change it. The MLP is at least float32.
        revision: Commit, tag or branch of the weights on the hub; by default the main branch as of today.
        tokenizer: Hub id or local folder of the tokenizer, BERT's of lower-case English.
        tokenizer_revision: Commit, tag or branch of the tokenizer on the hub.

    Raises:
        FileNotFoundError: If there are no such weights or no tokenizer.
        ValueError: If the file has no or another checksum, lacks keys, or has other shapes or weights that are not
            finite; if the dtype is none of those; if the tokenizer has more or fewer tokens than the network; if a
            revision is given for what is local.
        ModuleNotFoundError: If transformers is not installed.

    Example:
        >>> preference = ImageReward(sha256="...")  # doctest: +SKIP
        >>> preference.score(torch.rand(1, 3, 512, 512), ["coloured noise"]).shape  # doctest: +SKIP
        torch.Size([1])
    """

    is_differentiable = True

    def __init__(
        self,
        weights: str | Path = "THUDM/ImageReward/ImageReward.pt",
        *,
        sha256: str | None = None,
        dtype: Dtype = "float32",
        revision: str | None = None,
        tokenizer: str | Path = "google-bert/bert-base-uncased",
        tokenizer_revision: str | None = None,
    ) -> None:
        from transformers import AutoTokenizer
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        precision = torch_dtype(dtype)
        words = load_preprocessing(AutoTokenizer, Source(str(tokenizer), tokenizer_revision))
        # BLIP's marks of texts to decode and to encode: the network has a row for each, after BERT's own.
        words.add_tokens(["[DEC]", "[ENC]"], special_tokens=True)
        networks = blip_scorer(read_weights(str(weights), sha256, revision), precision, str(weights))
        known = networks.text.config.vocab_size
        if len(words) != known:
            raise ValueError(f"{tokenizer} has {len(words)} tokens and the network {known}: give BERT's tokenizer.")
        super().__init__(*networks)
        self._tokenizer = words
        edge = networks.vision.config.image_size
        crop = {"height": edge, "width": edge}
        self._pixels = CLIPPixels.of(CLIPImageProcessorPil(size={"shortest_edge": edge}, crop_size=crop))

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score ``(B, 3, H, W)`` images in ``[0, 1]`` of any size as ``(B,)`` float32 values, mostly from -2 to 2.

        Raises:
            TypeError, ValueError: See :func:`rewards.base.require_batch`.
        """
        require_batch(images, prompts)
        vision, text, head = self.networks
        # Padding is masked: the authors' 35 tokens would give the same score and cost more.
        tokens = self._tokenizer(prompts, padding=True, truncation=True, max_length=_LENGTH, return_tensors="pt")
        with torch.autocast(self.device.type, enabled=False):
            features = vision(pixel_values=pixel_values(vision, self._pixels, images)).last_hidden_state
            output = text(
                input_ids=tokens["input_ids"].to(self.device),
                attention_mask=tokens["attention_mask"].to(self.device),
                encoder_hidden_states=features,
                is_decoder=False,
            ).last_hidden_state
            scores: Tensor = (head(at_least_float32(output[:, 0])) - _MEAN) / _STD
        return scores.squeeze(-1).float().to(images.device)
