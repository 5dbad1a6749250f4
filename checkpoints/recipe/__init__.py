"""How tiny-clip and tiny-animals were made: ``python -m checkpoints.recipe`` from the repository's root."""
