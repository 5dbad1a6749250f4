"""What one denoising step is: transition kernels, the models that predict, and how a pipeline becomes one of them."""
