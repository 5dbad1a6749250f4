"""Recipe of tiny-clip and tiny-animals: run ``python -m checkpoints.recipe`` in the repository's root."""
