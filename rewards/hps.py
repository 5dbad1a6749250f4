"""Human Preference Score v2: people's preference between images for a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rewards.checks import require_choice
from rewards.clip_reward import CLIPReward, load_clip_from
from rewards.networks.clip import CLIP_H
from rewards.networks.loading import Dtype
from rewards.networks.open_clip import load_open_clip
from rewards.networks.source import Source
from rewards.networks.weight_file import is_weight_file

Fit = Literal["pad", "crop"]


class HPSv2(CLIPReward):
    """100 times the cosine between embeddings of a CLIP network trained on people's rankings of images.

    Wu et al. 2023, "Human Preference Score v2: a solid benchmark for evaluating human preferences of text-to-image
    synthesis", arXiv:2306.09341. The authors' ``hpsv2.score`` returns the cosine. Their tables and this class have 100
    times that, which is also the unit of :class:`rewards.CLIPScore`. Values lie in ``[-100, 100]``. Those of the tables
    are mostly between 25 and 30, and one point is a large difference. Gradients reach the pixels. Prompts longer than
    the network's text length are cut.

    The authors' preprocessing fits the complete image into the network's square, on black. CLIP's own preprocessing
    crops the image. Both frame square images alike. Their scores differ only where bicubic interpolation overshoots,
    which the authors keep: by less than 0.01 points with "tiny-clip". For 3:2 images of random colours, the scores of
    the same network moved by 9 points on average and by 23 at most.

    The published weights are a CLIP ViT-H/14 under Apache-2.0, so far as known. Versions 2.0 and 2.1 differ in nothing
    else. The authors' files of both can be read: "xswu/HPSv2/HPS_v2_compressed.pt" and
    "xswu/HPSv2/HPS_v2.1_compressed.pt". The default is a conversion by a third party. Its name does not say of which
    version. None of this was compared with these weights, only with the published formula on random weights, in both
    formats.

    Args:
        model: Hub id or local folder of a ``CLIPModel`` with safetensors weights, or the name of a builtin checkpoint;
            or a file with open_clip's keys, ``.safetensors`` or the official ``.pt``, here or as
            "organisation/repository/file" on the hub.
        dtype: Precision of the network; autocast around a call does not change it. Scores are float32.
        revision: Commit, tag or branch of the model on the hub; by default its main branch as of today.
        processor: Hub id or folder of tokenizer and image preprocessing, and for a file of the configuration too. The
            default is a local model's own. For models of the hub and for files it is that of the network that HPSv2
            was trained from, "laion/CLIP-ViT-H-14-laion2B-s32B-b79K".
        processor_revision: Commit, tag or branch of the processor on the hub.
        fit: "pad" as the authors do, "crop" as CLIP does.
        sha256: A file's checksum. A ``.pt`` is a pickle: it is opened only with a checksum, and only for tensors.
            ``sha256sum FILE`` prints it for a copy that you trust. The hub shows it on a file's page.

    Raises:
        FileNotFoundError: If there is no such model, or no preprocessing.
        ValueError: If the folder is no CLIP model with complete, finite safetensors weights, or the dtype or the fit is
            none of those, or a revision is given for a folder; if a file has no or another checksum, lacks keys, or has
            other shapes than the configuration says.
        ModuleNotFoundError: If transformers is not installed.

    Example:
        >>> hps = HPSv2()  # doctest: +SKIP
        >>> hps.score(torch.rand(1, 3, 512, 512), ["coloured noise"]).shape  # doctest: +SKIP
        torch.Size([1])
    """

    def __init__(
        self,
        model: str | Path = "adams-story/HPSv2-hf",
        dtype: Dtype = "float32",
        revision: str | None = None,
        processor: str | Path | None = None,
        processor_revision: str | None = None,
        fit: Fit = "pad",
        sha256: str | None = None,
    ) -> None:
        require_choice("fit", fit, Fit)
        if is_weight_file(str(model)):
            source = Source(str(processor or CLIP_H), processor_revision)
            loaded = load_open_clip(str(model), sha256, revision, dtype, source)
        else:
            if sha256 is not None:
                raise ValueError(f"sha256 is for a file, but model is {str(model)!r}: leave it out, or name a file.")
            loaded = load_clip_from(model, dtype, revision, processor, processor_revision, CLIP_H)
        super().__init__(loaded)
        if fit == "pad":
            self._pixels = self._pixels.padded(self._clip.config.vision_config.image_size)

    def _scale(self) -> float:
        return 100.0
