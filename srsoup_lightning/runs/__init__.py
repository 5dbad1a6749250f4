"""The run directory: writing, reading and continuing it."""
