"""pytest fixtures for the parts beside the cluster: Postgres, Ollama, a model registry. All real, all on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.model_registry import ModelRegistry
from testbed.ollama_server import OllamaServer
from testbed.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL 15 for the run. Do not stop, kill or freeze it: make a PostgresServer of your own for that."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[str]:
    """The DSN of a fresh, empty database, dropped after the test."""
    name = postgres_server.new_database()
    yield postgres_server.dsn(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def ollama() -> Iterator[OllamaServer]:
    """One Ollama for the run, with both test models in its store: `smollm2:135m` (loaded) and `gemma3:270m`.

    Share it: leave those two models as they are, and do not kill it. A test that pulls, deletes or kills makes its own.
    """
    with OllamaServer(preload=True) as server:
        server.load("smollm2:135m")
        yield server


@pytest.fixture
def model_registry() -> Iterator[ModelRegistry]:
    """A registry of the test's own (it starts in a tenth of a second), so that tags may move and blobs may break."""
    with ModelRegistry() as registry:
        yield registry
