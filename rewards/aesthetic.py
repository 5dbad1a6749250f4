"""LAION's aesthetic predictor: the beauty of an image in people's eyes, for any prompt."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from rewards.base import Reward, require_batch
from rewards.clip_reward import embed_images
from rewards.networks.clip import load_clip_vision
from rewards.networks.linear_head import linear_head
from rewards.networks.loading import Dtype
from rewards.networks.source import Source
from rewards.networks.weight_file import read_weights


class AestheticScore(Reward):
    """LAION's aesthetic predictor v2: linear layers on the unit embedding of CLIP's image tower.

    Schuhmann 2022, "Improved aesthetic predictor", github.com/christophschuhmann/improved-aesthetic-predictor, file
    sac+logos+ava1-l14-linearMSE, the filter of LAION-Aesthetics (Schuhmann et al. 2022, arXiv:2210.08402) and the
    "aesthetic quality" reward of Black et al. 2023, arXiv:2305.13301: ``MLP(e / |e|)`` with an MLP 768-1024-128-64-16-1
    without activations, trained on ratings from 1 to 10. Values have no limit. Most images have 4 to 7, and
    LAION's subsets begin at 4.5 to 6.5. The prompt plays no role. Gradients reach the pixels.

    The code of the head's repository is said to be under the MIT licence, and so is OpenAI's network. Neither was
    checked. The formula and the file format were compared on random weights only.

    Args:
        model: Hub id or local folder of a CLIP model with safetensors weights. Only its image tower is loaded.
        head: The MLP's weights: a local file, or "organisation/repository/file" on the hub. Either ``.safetensors`` or
            the official ``.pth``, both with the keys ``layers.0.weight`` to ``layers.7.bias``.
        sha256: The file's checksum. A ``.pth`` is a pickle: it is opened only with a checksum, and only for tensors.
            ``sha256sum FILE`` prints it for a copy that you trust. The hub shows it on a file's page.
        dtype: Precision of the network; autocast around a call does not change it. The head is at least float32.
        revision: Commit, tag or branch of the model on the hub; by default its main branch as of today.
        head_revision: Commit, tag or branch of the head on the hub.

    Raises:
        FileNotFoundError: If there is no such model, no preprocessing or no such head.
        ValueError: If the model is no CLIP model with complete, finite safetensors weights, or the dtype is none of
            those; if the head has no or another checksum, other keys or shapes, or weights that are not finite; if a
            revision is given for what is local.
        ModuleNotFoundError: If transformers is not installed.

    Example:
        >>> aesthetic = AestheticScore(head="sac+logos+ava1-l14-linearMSE.safetensors")  # doctest: +SKIP
        >>> aesthetic.score(torch.rand(1, 3, 512, 512), [""]).shape  # doctest: +SKIP
        torch.Size([1])
    """

    is_differentiable = True

    def __init__(
        self,
        model: str | Path = "openai/clip-vit-large-patch14",
        *,
        head: str | Path,
        sha256: str | None = None,
        dtype: Dtype = "float32",
        revision: str | None = None,
        head_revision: str | None = None,
    ) -> None:
        weights = read_weights(str(head), sha256, head_revision)
        network, pixels = load_clip_vision(Source(str(model), revision), dtype)
        layers = linear_head(weights, network.config.projection_dim, str(head))
        super().__init__(network, layers.to(torch.promote_types(network.dtype, torch.float32)))
        self._pixels = pixels

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score ``(B, 3, H, W)`` images in ``[0, 1]`` of any size as ``(B,)`` float32 values, mostly between 4 and 7.

        Raises:
            TypeError, ValueError: See :func:`rewards.base.require_batch`.
        """
        require_batch(images, prompts)
        network, layers = self.networks
        with torch.autocast(self.device.type, enabled=False):
            scores: Tensor = layers(embed_images(network, self._pixels, images))
        return scores.squeeze(-1).float().to(images.device)
