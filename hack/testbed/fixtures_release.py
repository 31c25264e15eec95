"""pytest fixtures: one release of the chart on the real node, with images built here and models of our registry."""

from collections.abc import Iterator

import pytest

from testbed.cluster import Cluster
from testbed.images import build_images
from testbed.model_registry import ModelRegistry
from testbed.release import Release, quick_values


@pytest.fixture(scope="session")
def node_registry(node: Cluster) -> Iterator[ModelRegistry]:
    """A model registry that pods of the node can reach."""
    with ModelRegistry(node.host_address) as registry:
        yield registry


@pytest.fixture(scope="session")
def node_images(node: Cluster) -> Cluster:
    """The node with every image that the chart names."""
    for archive in build_images(["retinue", "ollama", "postgres"]).values():
        node.load_image(archive)
    return node


@pytest.fixture(scope="module")
def release(node_images: Cluster, node_registry: ModelRegistry) -> Iterator[Release]:
    """retinue, installed by Helm and ready; an unused model server goes after two seconds."""
    release = Release(node_images.kubeconfig)
    release.install(quick_values(node_registry.address))
    yield release
    release.kubectl("delete", "assistantdeployments", "-A", "--all")
    release.uninstall()
    release.kubectl("delete", "namespace", release.namespace, "--ignore-not-found")
