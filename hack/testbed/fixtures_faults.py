"""pytest fixtures that put a fault proxy in front of a real part."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from testbed.cluster import Cluster
from testbed.faultproxy_http import HttpFaultProxy
from testbed.faultproxy_kube import KubeFaultProxy
from testbed.faultproxy_tcp import TcpFaultProxy
from testbed.ollama_server import OllamaServer


def kube_fault_proxy(cluster: Cluster) -> KubeFaultProxy:
    """A proxy, not started yet, in front of a cluster's API server; it shows the server's own certificate."""
    return KubeFaultProxy(cluster.kubeconfig, cluster.certs.server)


@pytest.fixture
def fault_proxy(control_plane: Cluster) -> Iterator[KubeFaultProxy]:
    """In front of the API server: clients use `fault_proxy.kubeconfig` and are administrators."""
    with kube_fault_proxy(control_plane) as proxy:
        yield proxy


@pytest.fixture
def postgres_proxy(postgres: str) -> Iterator[TcpFaultProxy]:
    """In front of Postgres: `postgres_proxy.dsn(postgres)` is the test's database through the proxy."""
    parts = urlsplit(postgres)
    with TcpFaultProxy(parts.hostname or "127.0.0.1", parts.port or 5432) as proxy:
        yield proxy


@pytest.fixture
def ollama_proxy(ollama: OllamaServer) -> Iterator[HttpFaultProxy]:
    """In front of Ollama: `ollama_proxy.url`. A request is its method and path: verb="POST", resource="/api/chat"."""
    with HttpFaultProxy(ollama.url) as proxy:
        yield proxy
