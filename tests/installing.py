"""Values with which the tests install the chart."""

from typing import Any

from testbed.model_registry import ModelRegistry
from testbed.release import testbed_values


def install_values(registry: ModelRegistry) -> dict[str, Any]:
    """Values of the tests: quick probes, so that what they show comes soon."""
    return testbed_values(
        registry.address,
        models={"unusedSeconds": 2},
        health={"probeSeconds": 1, "generateSeconds": 5, "rowSeconds": 2},
    )
