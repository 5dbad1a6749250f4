"""What a soup and a run cost, and the limits that are kept."""
