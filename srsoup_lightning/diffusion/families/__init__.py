"""One file for each model family: how its pipeline encodes, evaluates and decodes."""
