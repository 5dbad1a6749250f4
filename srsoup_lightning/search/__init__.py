"""Tensor maths of search: pure functions and small policies over rewards, noise and latents.

All files share the names of the axes. P is the number of preferences, each with its trajectory. S is the number of
sources, the trajectories whose candidates are asked about. M is the number of rewards and N the number of candidates. K
is the number of points of a pool, and d the number of values of a latent.
"""
