"""Adapter of the Kubernetes API server: client, cache, list-watch, Lease."""
