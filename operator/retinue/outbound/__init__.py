"""Adapter of foreign HTTP: model registries."""
