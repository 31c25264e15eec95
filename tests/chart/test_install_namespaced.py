"""The chart with listed namespaces: a Role in each is enough for operator and gateway, and others are not touched."""

from collections.abc import Iterator

import httpx
import pytest
import yaml

from testbed.cluster import Cluster
from testbed.model_registry import ModelRegistry
from testbed.release import ROOT, Release, is_ready, quick_values, until

pytestmark = [pytest.mark.chart, pytest.mark.timeout(600)]
EXAMPLE = ROOT / "examples" / "quickstart"


@pytest.fixture(scope="module")
def narrow(node_images: Cluster, node_registry: ModelRegistry) -> Iterator[Release]:
    """A release that may look at the namespace `bots` only."""
    release = Release(node_images.kubeconfig, namespace="narrow-system")
    release.kubectl("apply", "-f", str(EXAMPLE / "00-namespace.yaml"))
    values = quick_values(node_registry.address) | {"namespaces": ["bots"], "presets": {"namespaces": ["bots"]}}
    # CRDs that another release left behind are taken over, as docs/guides/install.md says.
    release.install(values, "--take-ownership")
    yield release
    release.kubectl("delete", "assistantdeployments", "-A", "--all")
    release.uninstall()
    release.kubectl("delete", "namespace", release.namespace, "elsewhere", "--ignore-not-found")


def test_a_listed_namespace_is_served(narrow: Release) -> None:
    narrow.kubectl("apply", "-f", str(EXAMPLE))
    until(
        lambda: is_ready(narrow.object("assistantdeployment", "helper", "bots")), "Ready in the listed namespace", 240
    )
    body = {"model": "bots/helper", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    with narrow.gateway() as url:
        headers = {"Authorization": f"Bearer {narrow.token()}"}
        until(
            lambda: httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60).status_code == 200,
            "an answer through the gateway",
            60,
        )


def test_the_setup_job_put_the_presets_where_they_were_asked_for(narrow: Release) -> None:
    names = {t["metadata"]["name"] for t in narrow.objects("assistanttemplates", "bots")}
    assert {"general-assistant", "code-assistant", "creative-writer", "research-assistant"} <= names


def test_another_namespace_is_left_alone(narrow: Release) -> None:
    narrow.kubectl("create", "namespace", "elsewhere")
    narrow.kubectl("label", "namespace", "elsewhere", "retinue.dev/environment=development")
    documents = [yaml.safe_load((EXAMPLE / name).read_text()) for name in ("assistant.yaml", "deployment.yaml")]
    for document in documents:
        document["metadata"]["namespace"] = "elsewhere"
    narrow.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))
    seen = narrow.object("assistant", "helper", "bots")["metadata"]["generation"]
    narrow.kubectl("-n", "bots", "patch", "assistant", "helper", "--type=merge", "-p", '{"spec":{"tags":["seen"]}}')
    until(
        lambda: narrow.object("assistant", "helper", "bots")["status"]["observedGeneration"] > seen,
        "the change in the listed namespace seen",
    )
    assert narrow.object("assistant", "helper", "elsewhere")["status"] == {"observedGeneration": -1}
    operator = f"system:serviceaccount:{narrow.namespace}:{narrow.name}-operator"
    answers = [
        narrow.kubectl("auth", "can-i", verb, "assistants.retinue.dev", "-n", place, "--as", operator, check=False)
        for verb, place in (("list", "bots"), ("list", "elsewhere"))
    ]
    assert [a.strip() for a in answers] == ["yes", "no"]
