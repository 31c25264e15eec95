"""Composition root of the operator: the only place that wires its parts together."""
