"""Networks of rewards: found, loaded and checked."""
