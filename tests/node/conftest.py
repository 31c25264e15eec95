"""One release on the node for all tests of trouble with models: an install takes longer than most of them."""

from collections.abc import Iterator

import pytest

from testbed.cluster import Cluster
from testbed.model_registry import ModelRegistry
from testbed.ollama_server import OllamaServer
from testbed.release import Release
from trouble_stage import HOME, TENANT, Stage, trouble_values


@pytest.fixture(scope="session")
def trouble_release(node_images: Cluster, node_registry: ModelRegistry) -> Iterator[Stage]:
    """The release with its stage; `home` serves."""
    with OllamaServer(preload=True, host=node_images.host_address) as external:
        release = Release(node_images.kubeconfig)
        release.install(trouble_values(node_registry.address, external.url))
        labels = {"retinue.dev/environment": "development", "retinue.dev/team": "workshop"}
        with release.gateway() as gateway:
            stage = Stage(release, node_registry, external, gateway, node_images.audit_log)
            stage.apply(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TENANT, "labels": labels}},
            )
            stage.serving(HOME)
            yield stage
        release.kubectl("delete", "assistantdeployments", "-A", "--all")
        release.uninstall()
        release.kubectl("delete", "namespace", TENANT, release.namespace, "--ignore-not-found")


@pytest.fixture
def stage(trouble_release: Stage) -> Iterator[Stage]:
    """The stage; afterwards the faults and every deployment but `home` are gone again."""
    yield trouble_release
    stage = trouble_release
    stage.registry.resume_blobs()
    stage.kubectl("-n", stage.models, "delete", "resourcequota,limitrange", "--all", "--ignore-not-found")
    others = [d["metadata"]["name"] for d in stage.release.objects("assistantdeployments", TENANT)]
    others = [name for name in others if name != HOME]
    if others:
        stage.remove(*others)
