"""A real Kubernetes cluster, its images, models and faults on one machine, for tests and the demo."""
