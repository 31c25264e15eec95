"""The control plane of the testbed is the real thing: admission, tokens, audit and quota work."""

import json
import subprocess
import uuid

import pytest

from testbed import binaries
from testbed.cluster import Cluster
from testbed.errors import TestbedError

pytestmark = pytest.mark.api

PRIVILEGED_POD = json.dumps(
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "privileged"},
        "spec": {
            "containers": [{"name": "main", "image": "none", "securityContext": {"privileged": True}}],
        },
    }
)


def test_the_namespace_fixture_is_an_environment(api_server: Cluster, namespace: str) -> None:
    labels = json.loads(api_server.kubectl("get", "namespace", namespace, "-o", "json"))["metadata"]["labels"]
    assert labels["retinue.dev/environment"] == "development"


def test_pod_security_refuses_a_privileged_pod_in_a_restricted_namespace(api_server: Cluster, namespace: str) -> None:
    api_server.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    with pytest.raises(TestbedError, match="violates PodSecurity"):
        api_server.kubectl("-n", namespace, "create", "-f", "-", input=PRIVILEGED_POD)


def test_a_quota_refuses_what_is_over_it(api_server: Cluster, namespace: str) -> None:
    api_server.kubectl("-n", namespace, "create", "quota", "none", "--hard=pods=0")
    api_server.kubectl(
        "-n", namespace, "wait", "--for=jsonpath={.status.hard.pods}=0", "resourcequota/none", "--timeout=30s"
    )
    with pytest.raises(TestbedError, match="exceeded quota"):
        api_server.kubectl("-n", namespace, "create", "-f", "-", input=PRIVILEGED_POD)


def test_a_service_account_token_is_accepted_and_has_no_rights(api_server: Cluster, namespace: str) -> None:
    token = api_server.kubectl("-n", namespace, "create", "token", "default").strip()
    kubectl = [str(binaries.ensure("kubectl")), f"--server={api_server.url}", f"--token={token}"]
    authority = f"--certificate-authority={api_server.certs.authority.cert}"
    ran = subprocess.run(
        [*kubectl, "--kubeconfig=/dev/null", authority, "-n", namespace, "get", "secrets"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"system:serviceaccount:{namespace}:default" in ran.stderr
    assert "Forbidden" in ran.stderr


def test_every_write_is_in_the_audit_log(api_server: Cluster, namespace: str) -> None:
    name = f"seen-{uuid.uuid4().hex[:8]}"
    api_server.kubectl("-n", namespace, "create", "configmap", name)
    seen = [json.loads(line) for line in api_server.audit_log.read_text().splitlines() if name in line]
    assert [event["verb"] for event in seen if event["objectRef"]["resource"] == "configmaps"] == ["create"]


def test_an_unauthenticated_client_may_not_read(api_server: Cluster) -> None:
    ran = subprocess.run(
        [
            *(str(binaries.ensure("kubectl")), "--kubeconfig=/dev/null", f"--server={api_server.url}"),
            *(f"--certificate-authority={api_server.certs.authority.cert}", "--token=none", "get", "nodes"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode != 0
    assert "Unauthorized" in ran.stderr or "logged in" in ran.stderr
