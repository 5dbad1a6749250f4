"""Denoising: transition kernels, the models that predict, and the way from a pipeline to one of them."""
