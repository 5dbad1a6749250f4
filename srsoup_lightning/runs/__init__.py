"""The run directory: written, read back, and continued."""
