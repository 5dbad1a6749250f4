"""Reports of runs: comparisons, tables, figures, sheets and the gallery."""
