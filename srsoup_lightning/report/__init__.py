"""From run directories to what people look at; no sampler and no model is known here."""
