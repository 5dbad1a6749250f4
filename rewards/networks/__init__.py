"""Networks that rewards consist of: found, loaded and checked."""
