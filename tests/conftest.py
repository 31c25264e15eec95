"""Registers the fixtures that start real parts; every test may ask for them by name."""

import importlib.util

_FIXTURES = (
    "testbed.fixtures_cluster",
    "testbed.fixtures_parts",
    "testbed.fixtures_faults",
    "testbed.fixtures_release",
)

pytest_plugins = [name for name in _FIXTURES if importlib.util.find_spec(name) is not None]
