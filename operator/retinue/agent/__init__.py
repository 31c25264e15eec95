"""Composition root of the agent: the only listener of a model pod."""
