"""The mathematics of black-box steering: tensors in, tensors out.

One alphabet of axes: P preferences (each with its trajectory), S suppliers (trajectories whose candidates are asked
about), M rewards, N candidates, d numbers of a latent.
"""
