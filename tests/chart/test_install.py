"""The whole product as a user installs it: Helm, real pods, a real model, and what people do to it by hand."""

import concurrent.futures
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from testbed.errors import TestbedError
from testbed.model_registry import ModelRegistry
from testbed.release import Release, condition, is_ready, quick_values, until

pytestmark = [pytest.mark.chart, pytest.mark.timeout(900)]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BOTS = "bots"
"""Namespace of the examples."""


def deployment(release: Release, name: str = "helper") -> dict[str, Any]:
    return release.object("assistantdeployment", name, BOTS)


def server_of(release: Release, name: str = "helper") -> dict[str, Any]:
    return release.object("modelserver", deployment(release, name)["status"]["modelServer"], release.models_namespace)


def pods(release: Release) -> dict[str, dict[str, Any]]:
    found = release.objects("pods", release.models_namespace)
    return {p["metadata"]["uid"]: p for p in found if not p["metadata"].get("deletionTimestamp")}


def patch(release: Release, kind: str, name: str, spec: dict[str, Any]) -> None:
    release.kubectl("-n", BOTS, "patch", kind, name, "--type=merge", "-p", json.dumps({"spec": spec}))


def wait_ready(release: Release, name: str = "helper", seconds: float = 240) -> None:
    until(lambda: is_ready(deployment(release, name)), f"AssistantDeployment {name} Ready", seconds)


def ask(url: str, token: str, text: str = "Say hello.", model: str = f"{BOTS}/helper", **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 12, **more}
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=120)


@pytest.fixture(scope="module")
def helper(release: Release) -> Release:
    """The quickstart applied and Ready."""
    release.kubectl("apply", "-f", str(EXAMPLES / "quickstart"))
    wait_ready(release)
    return release


@pytest.fixture(scope="module")
def gateway(helper: Release) -> Iterator[tuple[str, str]]:
    """URL and token of the gateway."""
    with helper.gateway() as url:
        yield url, helper.token()


def test_a_real_model_answers_from_a_restricted_pod(helper: Release, gateway: tuple[str, str]) -> None:
    answer = ask(*gateway)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["choices"][0]["message"]["content"].strip()
    assert body["usage"]["completion_tokens"] > 0
    namespace = helper.object("namespace", helper.models_namespace, "")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert [p["status"]["phase"] for p in pods(helper).values()] == ["Running"]


def test_a_stream_ends_with_its_usage(gateway: tuple[str, str]) -> None:
    url, token = gateway
    body = {
        "model": f"{BOTS}/helper",
        "messages": [{"role": "user", "content": "Count to three."}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    with httpx.stream(
        "POST", f"{url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {token}"}, timeout=120
    ) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert len(chunks) > 2
    assert chunks[-1]["usage"]["completion_tokens"] > 0


def test_health_and_usage_rows_reach_postgres(helper: Release, gateway: tuple[str, str]) -> None:
    assert ask(*gateway).status_code == 200
    for table in ("pod_health", "deployment_health", "usage"):
        until(lambda t=table: helper.sql(f"select count(*) from {t}").strip() != "0", f"rows in {table}")


def test_applying_the_same_again_changes_nothing(helper: Release) -> None:
    for folder in ("quickstart",):
        assert helper.kubectl("diff", "-f", str(EXAMPLES / folder)) == ""
        assert "configured" not in helper.kubectl("apply", "-f", str(EXAMPLES / folder))


def test_a_changed_prompt_is_served_by_the_same_pod(helper: Release, gateway: tuple[str, str]) -> None:
    before, old = set(pods(helper)), deployment(helper)["status"]["activeRevision"]
    patch(helper, "assistant", "helper", {"systemPrompt": {"inline": "You only ever answer: tulip."}})
    until(lambda: deployment(helper)["status"]["activeRevision"] != old, "another active revision")
    wait_ready(helper)
    until(lambda: ask(*gateway).status_code == 200, "an answer of the new revision")
    assert set(pods(helper)) == before


def test_scaling_to_two_and_back_is_seen_by_kubectl(helper: Release) -> None:
    helper.kubectl("-n", BOTS, "scale", "assistantdeployment", "helper", "--replicas=2")
    until(lambda: deployment(helper)["status"].get("readyReplicas") == 2, "two ready pods")
    assert len(pods(helper)) == 2
    helper.kubectl("-n", BOTS, "scale", "assistantdeployment", "helper", "--replicas=1")
    until(lambda: len(pods(helper)) == 1, "one pod")
    wait_ready(helper)


def test_a_deleted_model_pod_comes_back_without_a_pull(helper: Release, gateway: tuple[str, str]) -> None:
    (uid,) = pods(helper)
    name = pods(helper)[uid]["metadata"]["name"]
    helper.kubectl("-n", helper.models_namespace, "delete", "pod", name, "--wait=false")
    until(lambda: uid not in pods(helper) and len(pods(helper)) == 1, "another pod")
    wait_ready(helper)
    until(lambda: ask(*gateway).status_code == 200, "an answer of the new pod")


def test_a_changed_model_takes_over_without_a_failed_request(helper: Release, gateway: tuple[str, str]) -> None:
    old = deployment(helper)["status"]["modelServer"]
    stop = threading.Event()

    def keep_asking() -> list[int]:
        statuses = []
        while not stop.is_set():
            statuses.append(ask(*gateway, max_tokens=1).status_code)
        return statuses

    with concurrent.futures.ThreadPoolExecutor() as pool:
        asking = [pool.submit(keep_asking) for _ in range(2)]
        try:
            patch(helper, "assistant", "helper", {"model": {"name": "gemma3:270m", "digest": None}})
            until(lambda: deployment(helper)["status"]["modelServer"] != old, "another model server", 300)
            wait_ready(helper)
            until(lambda: not _exists(helper, "modelserver", old), "the old model server gone", 120)
            assert ask(*gateway, max_tokens=1).status_code == 200
        finally:
            stop.set()
        statuses = [status for future in asking for status in future.result()]
    assert server_of(helper)["spec"]["model"]["name"] == "gemma3:270m"
    assert len(statuses) > 2
    assert set(statuses) == {200}


def test_an_unknown_model_stalls_with_its_cause_and_the_old_one_serves(
    helper: Release, gateway: tuple[str, str]
) -> None:
    before = deployment(helper)["status"]["activeRevision"]
    patch(helper, "assistant", "helper", {"model": {"name": "no-such-model:1b", "digest": None}})
    until(lambda: bool(condition(helper.object("assistant", "helper", BOTS), "Stalled")), "the Assistant stalled")
    message = condition(helper.object("assistant", "helper", BOTS), "Stalled")["message"]
    assert "spec.model" in message
    assert "no-such-model:1b" in message
    assert deployment(helper)["status"]["activeRevision"] == before
    assert ask(*gateway).status_code == 200
    patch(helper, "assistant", "helper", {"model": {"name": "smollm2:135m", "digest": None}})
    wait_ready(helper)


def test_two_assistants_on_one_model_share_its_pod(helper: Release) -> None:
    wait_ready(helper)
    helper.kubectl("apply", "-f", str(EXAMPLES / "template"))
    wait_ready(helper, "rose-support")
    assert server_of(helper, "rose-support")["metadata"]["uid"] == server_of(helper)["metadata"]["uid"]
    until(lambda: len(pods(helper)) == 1, "one pod for both")


def test_an_upgrade_that_edits_a_profile_rolls_its_pods(helper: Release, node_registry: ModelRegistry) -> None:
    wait_ready(helper)
    before = set(pods(helper))
    values = quick_values(node_registry.address)
    values["profiles"][0]["slots"] = 3
    helper.install(values)
    until(lambda: len(pods(helper)) == 1 and not set(pods(helper)) & before, "a new pod with three slots")
    wait_ready(helper)
    (pod,) = pods(helper).values()
    containers = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    (ollama,) = [c for c in containers if c["name"] == "ollama"]
    assert {"name": "OLLAMA_NUM_PARALLEL", "value": "3"} in ollama["env"]


def test_a_suspended_deployment_is_refused_by_name(helper: Release) -> None:
    helper.kubectl("apply", "-f", str(EXAMPLES / "template"))
    wait_ready(helper, "rose-support")
    patch(helper, "assistantdeployment", "rose-support", {"suspend": True})
    with helper.gateway() as url:
        token = helper.token()
        until(lambda: ask(url, token, model=f"{BOTS}/rose-support").status_code == 503, "503 for a suspended one")
        assert "suspend" in ask(url, token, model=f"{BOTS}/rose-support").json()["error"]["message"]
        assert ask(url, token).status_code == 200


def test_deleting_the_deployments_leaves_nothing_in_the_models_namespace(helper: Release) -> None:
    helper.kubectl("-n", BOTS, "delete", "assistantdeployment", "--all")
    for kind in ("modelservers", "pods", "statefulsets", "persistentvolumeclaims", "poddisruptionbudgets"):
        until(lambda k=kind: not helper.objects(k, helper.models_namespace), f"no {kind} left", 120)
    assert helper.objects("assistants", BOTS)


def test_uninstalling_keeps_assistants_and_a_new_install_serves_them(
    helper: Release, node_registry: ModelRegistry
) -> None:
    helper.uninstall()
    assert [a["metadata"]["name"] for a in helper.objects("assistants", BOTS)]
    assert not helper.objects("deployments", helper.namespace)
    until(lambda: not _exists(helper, "namespace", helper.models_namespace), "the models namespace gone", 120)
    helper.install(quick_values(node_registry.address))
    helper.kubectl("apply", "-f", str(EXAMPLES / "quickstart" / "deployment.yaml"))
    wait_ready(helper)


def _exists(release: Release, kind: str, name: str) -> bool:
    where = [] if kind == "namespace" else ["-n", release.models_namespace]
    try:
        return bool(release.kubectl("get", kind, name, "--ignore-not-found", "-o", "name", *where).strip())
    except TestbedError:
        return False
