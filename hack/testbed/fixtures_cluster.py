"""pytest fixtures that give real clusters. With RETINUE_CLUSTER=NAME a running one is used and left alone."""

import os
import secrets
from collections.abc import Iterator

import pytest

from testbed.cluster import Cluster
from testbed.errors import TestbedError


def _session_cluster(suffix: str) -> tuple[Cluster, bool]:
    """The cluster named by RETINUE_CLUSTER if its kind fits, else a fresh one that dies with this session."""
    named = os.environ.get("RETINUE_CLUSTER")
    if named:
        running = Cluster.open(named)
        if suffix == "api" or running.facts.kind == "node":
            return running, False
    name = f"pytest-{os.getpid()}-{suffix}"
    up = Cluster.up_node if suffix == "node" else Cluster.up_control_plane
    return up(name, owned=True), True


@pytest.fixture(scope="session")
def api_server() -> Iterator[Cluster]:
    """A real API server with etcd, controller manager and scheduler. No pods run."""
    cluster, ours = _session_cluster("api")
    try:
        yield cluster
    finally:
        if ours:
            cluster.down()


@pytest.fixture(scope="session")
def control_plane(api_server: Cluster) -> Cluster:
    """The same with the CRDs of this checkout."""
    api_server.apply_crds()
    return api_server


@pytest.fixture(scope="session")
def node() -> Iterator[Cluster]:
    """A whole cluster with one real node (needs root). No image of ours is loaded and no CRD applied."""
    if os.geteuid() != 0:
        pytest.skip("a node needs root")
    cluster, ours = _session_cluster("node")
    try:
        yield cluster
    finally:
        if ours:
            cluster.down()


def _fresh_namespace(cluster: Cluster, labels: dict[str, str]) -> str:
    """Makes a namespace with a name that was never used, and waits for its default service account."""
    name = f"t-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, *(f"{key}={value}" for key, value in labels.items()))
    cluster.kubectl("wait", "--for=create", f"--namespace={name}", "serviceaccount/default", "--timeout=30s")
    return name


def _forget_namespace(cluster: Cluster, name: str) -> None:
    """Deletes without waiting; a cluster that the test itself has ended is no error."""
    try:
        cluster.kubectl("delete", "namespace", name, "--wait=false")
    except TestbedError as error:
        if cluster.processes.records():
            raise TestbedError(f"the namespace {name} of a test could not be deleted: {error}") from error


@pytest.fixture
def namespace(api_server: Cluster) -> Iterator[str]:
    """A fresh namespace of the environment `development` on the control plane."""
    name = _fresh_namespace(api_server, {"retinue.dev/environment": "development"})
    yield name
    _forget_namespace(api_server, name)


@pytest.fixture
def node_namespace(node: Cluster) -> Iterator[str]:
    """A fresh namespace on the node: environment `development`, restricted Pod Security."""
    labels = {"retinue.dev/environment": "development", "pod-security.kubernetes.io/enforce": "restricted"}
    name = _fresh_namespace(node, labels)
    yield name
    _forget_namespace(node, name)
