"""Routes from a real API server, read with the chart's rights only; and life without it, from the snapshot on disk."""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from builders import MODEL_DIGEST, make_deployment, make_model_server, make_revision, make_snapshot
from gateway_process import MODELS_NAMESPACE, GatewayProcess, chat, platform, running
from testbed.cluster import Cluster
from testbed.errors import TestbedError
from testbed.ollama_server import OllamaServer

pytestmark = pytest.mark.api

Object = dict[str, Any]

RULES = {
    "tenants": ["assistantdeployments.retinue.dev,assistantrevisions.retinue.dev"],
    "models": ["modelservers.retinue.dev", "endpointslices.discovery.k8s.io"],
}
"""Resources that the gateway may get, list and watch: everywhere, and in the models namespace only."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A control plane of this module's own, because its API server is killed."""
    name = f"pytest-{os.getpid()}-gateway"
    cluster = Cluster.up_control_plane(name, owned=True)
    try:
        cluster.apply_crds()
        cluster.kubectl("create", "namespace", MODELS_NAMESPACE)
        grant(cluster)
        yield cluster
    finally:
        cluster.down()


def grant(cluster: Cluster) -> None:
    """The service account of the gateway with the rights that the chart gives it."""
    account = f"--serviceaccount={MODELS_NAMESPACE}:gateway"
    verbs = "--verb=get,list,watch"
    kubectl = cluster.kubectl
    kubectl("-n", MODELS_NAMESPACE, "create", "serviceaccount", "gateway")
    kubectl("create", "clusterrole", "gateway", verbs, *(f"--resource={r}" for r in RULES["tenants"]))
    kubectl("create", "clusterrolebinding", "gateway", "--clusterrole=gateway", account)
    kubectl("-n", MODELS_NAMESPACE, "create", "role", "gateway", verbs, *(f"--resource={r}" for r in RULES["models"]))
    kubectl("-n", MODELS_NAMESPACE, "create", "rolebinding", "gateway", "--role=gateway", account)


@pytest.fixture
def tenant(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"t-{abs(hash(request.node.name)) % 10**8}"
    cluster.kubectl("create", "namespace", name)
    yield name
    with contextlib.suppress(TestbedError):
        cluster.kubectl("delete", "namespace", name, "--wait=false")


@dataclass
class Stage:
    """The objects of one deployment that is answered by the real Ollama, and a gateway that watches them."""

    cluster: Cluster
    namespace: str
    gateway: GatewayProcess

    def apply(self, item: Object, status: Object | None = None) -> Object:
        """Create or change an object, and its status as the operator would."""
        metadata = {k: item["metadata"][k] for k in ("name", "namespace", "labels") if k in item["metadata"]}
        text = json.dumps({**item, "metadata": metadata})
        self.cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=text)
        if status is not None:
            self.status(metadata["name"], status)
        return item

    def status(self, name: str, status: Object) -> None:
        """Write the status of a deployment."""
        patch = json.dumps({"status": status})
        self.cluster.kubectl(
            "-n", self.namespace, "patch", "astdep", name, "--subresource=status", "--type=merge", "-p", patch
        )

    def revision(self, text: str, model: str = "smollm2:135m") -> Object:
        """A revision with this prompt."""
        snapshot = make_snapshot(
            model={"name": model, "digest": MODEL_DIGEST},
            runner={"numCtx": 2048},
            options={"temperature": "0", "maxTokens": 1},
            prompts=[{"name": "system", "role": "Primary", "text": text}],
        )
        return self.apply(make_revision(snapshot=snapshot, namespace=self.namespace))

    def server(self, **fields: Any) -> Object:
        """A model server of that model, on the external Ollama unless `profile` is given."""
        external = None if "profile" in fields else "local"
        made = make_model_server(
            model="smollm2:135m", digest=MODEL_DIGEST, runner={"numCtx": 2048}, external_server=external, **fields
        )
        return self.apply(made)

    def serve(self, revision: Object, server: Object, name: str = "helper", **spec: Any) -> None:
        """A deployment that serves this revision on this server."""
        item = make_deployment(name, spec=spec, namespace=self.namespace)
        del item["status"]
        self.apply(item, {"activeRevision": revision["metadata"]["name"], "modelServer": server["metadata"]["name"]})

    def ask(self, name: str = "helper") -> httpx.Response:
        """One request through the gateway."""
        with self.gateway.client() as client:
            return client.post("/v1/chat/completions", json=chat("hi", model=f"{self.namespace}/{name}"))

    def until(self, status: int, code: str | None = None, name: str = "helper") -> httpx.Response:
        """Ask until the answer has this status and error code."""
        last: list[httpx.Response] = []

        def seen() -> bool:
            last[:] = [self.ask(name)]
            found = last[0].json().get("error", {}).get("code") if last[0].status_code != 200 else None
            return last[0].status_code == status and found == code

        self.gateway.wait_until(seen, f"does not answer {status} {code}")
        return last[0]


def answers(cluster: Cluster) -> bool:
    """Whether the API server is ready."""
    try:
        return cluster.kubectl("get", "--raw=/readyz") == "ok"
    except TestbedError:
        return False


@pytest.fixture
def stage(cluster: Cluster, tenant: str, ollama: OllamaServer, tmp_path: Path) -> Iterator[Stage]:
    kubeconfig = tmp_path / "kubeconfig"
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    token = cluster.kubectl("-n", MODELS_NAMESPACE, "create", "token", "gateway", "--duration=1h").strip()
    document["users"][0]["user"] = {"token": token}
    kubeconfig.write_text(yaml.safe_dump(document))
    gateway = GatewayProcess(tmp_path / "gateway", platform({"local": ollama.url}), kubeconfig)
    with running(gateway):
        yield Stage(cluster, tenant, gateway)


def test_a_status_write_switches_the_revision_and_no_request_fails_or_mixes(stage: Stage) -> None:
    first, second, server = stage.revision("Be brief."), stage.revision("Be kind."), stage.server()
    stage.serve(first, server)
    names = [r["metadata"]["name"] for r in (first, second)]
    assert stage.until(200).headers["retinue-revision"] == names[0]
    stage.status("helper", {"activeRevision": names[1]})
    seen: list[str] = []

    def switched() -> bool:
        response = stage.ask()
        assert response.status_code == 200, response.text
        seen.append(response.headers["retinue-revision"])
        assert response.json()["system_fingerprint"] == seen[-1]
        return seen[-1] == names[1]

    stage.gateway.wait_until(switched, "does not switch")
    assert seen == sorted(seen, key=names.index)


def test_suspending_scaling_to_zero_and_deleting_are_followed(stage: Stage) -> None:
    revision, server = stage.revision("Be brief."), stage.server()
    stage.serve(revision, server)
    stage.until(200)
    stage.serve(revision, server, suspend=True)
    assert "spec.suspend" in stage.until(503, "assistant_suspended").json()["error"]["message"]
    stage.serve(revision, server, suspend=False)
    stage.until(200)
    stage.cluster.kubectl("-n", stage.namespace, "scale", "astdep/helper", "--replicas=0")
    stage.until(503, "assistant_scaled_to_zero")
    stage.cluster.kubectl("-n", stage.namespace, "delete", "astdep", "helper")
    stage.until(404, "model_not_found")


def test_pods_come_and_go_with_their_endpoint_slices(stage: Stage) -> None:
    server = stage.server(profile="small-cpu")
    stage.serve(stage.revision("Be brief."), server)
    stage.until(503, "assistant_no_ready_pod")
    name = server["metadata"]["name"]
    endpoint_slice = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-x",
            "namespace": MODELS_NAMESPACE,
            "labels": {"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "test"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "agent", "port": 9, "protocol": "TCP"}],
        # An address for documentation (RFC 5737), where nobody answers: a route, but no pod behind it.
        "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": True}}],
    }
    stage.apply(endpoint_slice)
    stage.until(503, "pods_unreachable")
    endpoint_slice["endpoints"] = []
    stage.apply(endpoint_slice)
    stage.until(503, "assistant_no_ready_pod")
    stage.cluster.kubectl("-n", MODELS_NAMESPACE, "delete", "endpointslice", f"{name}-x")


def test_a_gateway_of_listed_namespaces_serves_only_those(stage: Stage) -> None:
    stage.serve(stage.revision("Be brief."), stage.server())
    stage.until(200)
    gateway = stage.gateway
    gateway.stop()
    gateway.platform["namespaces"] = ["default", stage.namespace]
    gateway.start()
    stage.until(200)
    gateway.stop()
    gateway.platform["namespaces"] = ["default"]
    gateway.start()
    assert stage.ask().status_code == 404


def test_requests_are_answered_while_the_api_server_is_away_and_after_a_restart_without_it(stage: Stage) -> None:
    first, second, server = stage.revision("Be brief."), stage.revision("Be kind."), stage.server()
    stage.serve(first, server)
    stage.until(200)
    gateway = stage.gateway
    deployment = f'"{stage.namespace}"'
    gateway.wait_until(
        lambda: gateway.snapshot.exists() and deployment in gateway.snapshot.read_text(), "writes no snapshot"
    )
    assert first["metadata"]["name"] in gateway.snapshot.read_text()
    assert second["metadata"]["name"] not in gateway.snapshot.read_text()
    api_server = stage.cluster.processes.record("kube-apiserver")
    assert api_server is not None
    os.kill(api_server.pid, signal.SIGKILL)
    os.waitpid(api_server.pid, 0)
    try:
        assert stage.ask().status_code == 200
        assert gateway.stop() == 0
        gateway.start()
        assert stage.ask().headers["retinue-revision"] == first["metadata"]["name"]
        assert gateway.metric("retinue_gateway_routes_live") == 0
    finally:
        stage.cluster.processes.restart_dead()
        gateway.wait_until(lambda: answers(stage.cluster), "sees no API server again")
    stage.status("helper", {"activeRevision": second["metadata"]["name"]})
    gateway.wait_until(
        lambda: stage.ask().headers.get("retinue-revision") == second["metadata"]["name"], "does not come back", 90
    )
    assert gateway.metric("retinue_gateway_routes_live") == 1


def test_a_damaged_snapshot_is_left_alone_and_the_api_server_waited_for(stage: Stage) -> None:
    gateway = stage.gateway
    gateway.stop()
    gateway.snapshot.parent.mkdir(exist_ok=True)
    gateway.snapshot.write_bytes(b"retinue-routes 1 0000\n{}")
    with_cluster, gateway.kubeconfig = gateway.kubeconfig, None
    gateway.start(wait=False)
    gateway.wait_until(lambda: "snapshot_not_used" in gateway.log, "does not say so")
    assert httpx.get(f"{gateway.url}/readyz").status_code == 503
    assert stage.ask().json()["error"]["code"] == "starting"
    gateway.stop()
    gateway.kubeconfig = with_cluster
    gateway.start()
    stage.serve(stage.revision("Be brief."), stage.server())
    stage.until(200)
