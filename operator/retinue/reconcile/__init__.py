"""Level-based reconcilers, one per kind: gather, decide, act."""
