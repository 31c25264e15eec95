"""Composition root of the gateway: the data path between clients and model pods."""
