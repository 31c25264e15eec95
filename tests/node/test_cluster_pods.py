"""The node of the testbed is the real thing: restricted pods, Services, names, volumes with a real limit."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from testbed import scratch
from testbed.cluster import Cluster
from testbed.errors import TestbedError

pytestmark = pytest.mark.node

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture(scope="session")
def probing_node(node: Cluster) -> Cluster:
    """The node with the probe's image loaded."""
    assert node.load_image(scratch.archive("probe", scratch.PROBE)) == [scratch.PROBE]
    return node


def pod(name: str, *arguments: str, claim: str | None = None) -> dict[str, Any]:
    """A restricted pod that runs the probe once, with a claim mounted at /data."""
    container: dict[str, Any] = {
        "name": "main",
        "image": scratch.PROBE,
        "imagePullPolicy": "Never",
        "args": list(arguments),
        "securityContext": RESTRICTED,
    }
    spec: dict[str, Any] = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    if claim:
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
        spec["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
        spec["securityContext"] = {"fsGroup": 65532}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def apply(node: Cluster, namespace: str, *objects: dict[str, Any]) -> None:
    """Creates objects in one namespace."""
    items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    node.kubectl("-n", namespace, "create", "-f", "-", input=json.dumps(items))


def outcome(node: Cluster, namespace: str, name: str) -> tuple[str, str]:
    """Waits for the end of a pod; its phase and what it wrote."""
    for _ in range(600):
        phase = node.kubectl("-n", namespace, "get", "pod", name, "-o", "jsonpath={.status.phase}")
        if phase in ("Succeeded", "Failed"):
            return phase, node.kubectl("-n", namespace, "logs", name)
        time.sleep(0.1)
    raise AssertionError(node.kubectl("-n", namespace, "describe", "pod", name))


@pytest.fixture
def server(probing_node: Cluster, node_namespace: str) -> str:
    """A running HTTP server `web` with a Service of that name; its namespace."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    apply(probing_node, node_namespace, pod("web", "serve", ":8080"), service)
    probing_node.kubectl("-n", node_namespace, "wait", "--for=condition=Ready", "pod/web", "--timeout=60s")
    return node_namespace


def test_a_pod_reaches_another_by_the_name_of_its_service(probing_node: Cluster, server: str) -> None:
    apply(probing_node, server, pod("asks", "get", f"http://web.{server}.svc.cluster.local/"))
    assert outcome(probing_node, server, "asks") == ("Succeeded", "web\n")


def test_the_host_reaches_pods_and_services(probing_node: Cluster, server: str) -> None:
    pod_ip = probing_node.kubectl("-n", server, "get", "pod", "web", "-o", "jsonpath={.status.podIP}")
    service_ip = probing_node.kubectl("-n", server, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    # A new endpoint is in the rules of kube-proxy some time after it is Ready.
    with httpx.Client(trust_env=False, transport=httpx.HTTPTransport(retries=6)) as client:
        for url in (f"http://{pod_ip}:8080/", f"http://{service_ip}/"):
            assert client.get(url).text == "web\n"


class _Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"from the host\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Nothing on stderr."""


@pytest.fixture
def host_service(probing_node: Cluster) -> Iterator[str]:
    """URL of a server on the host, where pods reach it."""
    with http.server.ThreadingHTTPServer((probing_node.host_address, 0), _Hello) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://{probing_node.host_address}:{listening.server_port}/"
        listening.shutdown()


def test_a_pod_reaches_a_service_of_the_host(probing_node: Cluster, node_namespace: str, host_service: str) -> None:
    apply(probing_node, node_namespace, pod("asks", "get", host_service))
    assert outcome(probing_node, node_namespace, "asks") == ("Succeeded", "from the host\n")


def test_kubectl_exec_and_logs_work(probing_node: Cluster, server: str) -> None:
    assert probing_node.kubectl("-n", server, "exec", "web", "--", "/probe", "get", "http://127.0.0.1:8080") == "web\n"


def claim(size: str) -> dict[str, Any]:
    """A claim of the default StorageClass."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}},
    }


def test_a_full_volume_is_really_full_and_goes_with_its_claim(probing_node: Cluster, node_namespace: str) -> None:
    fits, over = (
        pod("fits", "write", "/data/a", "10", claim="data"),
        pod("over", "write", "/data/b", "64", claim="data"),
    )
    apply(probing_node, node_namespace, claim("32Mi"), fits)
    assert outcome(probing_node, node_namespace, "fits") == ("Succeeded", "wrote 10 MiB\n")
    apply(probing_node, node_namespace, over)
    phase, said = outcome(probing_node, node_namespace, "over")
    assert phase == "Failed"
    assert "no space left on device" in said
    volume = probing_node.kubectl("-n", node_namespace, "get", "pvc", "data", "-o", "jsonpath={.spec.volumeName}")
    assert volume
    probing_node.kubectl("-n", node_namespace, "delete", "pod", "fits", "over")
    probing_node.kubectl("-n", node_namespace, "delete", "pvc", "data")
    probing_node.kubectl("wait", "--for=delete", f"pv/{volume}", "--timeout=60s")


def test_an_image_that_is_no_image_is_refused_with_its_name(node: Cluster, tmp_path: Any) -> None:
    archive = tmp_path / "broken.tar"
    archive.write_bytes(b"no archive")
    with pytest.raises(TestbedError, match=r"broken\.tar"):
        node.load_image(archive)
