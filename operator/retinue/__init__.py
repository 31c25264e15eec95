"""retinue runs AI assistants on Kubernetes: environments, immutable revisions, graded health."""

__version__ = "0.1.0"
