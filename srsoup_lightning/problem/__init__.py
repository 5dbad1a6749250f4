"""The one door to the model and the rewards."""

from srsoup_lightning.problem.denoising import Preview
from srsoup_lightning.problem.problem import AnyPreview, Problem

__all__ = ["AnyPreview", "Preview", "Problem"]
