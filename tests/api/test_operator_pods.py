"""The operator and the children of a ModelServer on a real API server with its real controllers; no node runs pods.

Where a pod has to get further than Pending, the test writes what a kubelet would write (a stand-in for the node only).
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from builders import OTHER_DIGEST, OTHER_MODEL, make_assistant, make_deployment
from operator_rig import OperatorRig, conditions, eventually, message, platform_of
from testbed.cluster import Cluster

pytestmark = pytest.mark.api

Object = dict[str, Any]
IMAGE = "ollama/ollama:0.24.0"


@pytest.fixture
async def rig(control_plane: Cluster, namespace: str, tmp_path: Path) -> AsyncIterator[OperatorRig]:
    profiles = [{"name": "small-cpu", "image": IMAGE}, {"name": "other", "image": IMAGE}]
    platform = platform_of(namespace, profiles=profiles)
    async with OperatorRig(control_plane, namespace, tmp_path, platform) as running:
        yield running


async def deployed(rig: OperatorRig, **spec: Any) -> str:
    """An assistant and its deployment; returns the name of the ModelServer once its StatefulSet has pods."""
    await rig.apply(make_assistant())
    await rig.apply(make_deployment(spec=spec))
    obj = await rig.until("AssistantDeployment", "support-bot", lambda o: "candidate" in o["status"])
    name = str(obj["status"]["candidate"]["modelServer"])
    await rig.until("StatefulSet", name, lambda o: bool(o["status"].get("replicas")))
    return name


def patch(rig: OperatorRig, kind: str, name: str, body: Object, *more: str) -> None:
    rig.cluster.kubectl(
        "patch", kind, name, f"--namespace={rig.models}", "--type=merge", f"--patch={json.dumps(body)}", *more
    )


def pod_is(rig: OperatorRig, name: str, ready: bool, **status: Any) -> None:
    """Writes the status that a kubelet would write."""
    state = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": "2026-01-10T08:00:00Z"}
    patch(rig, "pod", name, {"status": {"conditions": [state], **status}}, "--subresource=status")


async def all_pods_ready(rig: OperatorRig, server: str, count: int = 1) -> None:
    for number in range(count):
        await rig.until("Pod", f"{server}-{number}", lambda _: True)
        pod_is(rig, f"{server}-{number}", ready=True)


async def served(rig: OperatorRig, **spec: Any) -> str:
    server = await deployed(rig, **spec)
    await all_pods_ready(rig, server, spec.get("replicas", 1))
    await rig.until_condition("AssistantDeployment", "support-bot", "Ready", "Serving")
    return server


async def test_a_deployment_gets_a_stateful_set_a_service_a_budget_and_a_policy(rig: OperatorRig) -> None:
    server = await deployed(rig)
    for kind in ("StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy"):
        child = await rig.get(kind, server)
        assert child["metadata"]["ownerReferences"][0]["kind"] == "ModelServer"
    obj = await rig.until_condition("ModelServer", server, "Reconciling", "Unschedulable")
    assert "fits on no node" in message(obj)
    mine = await rig.until_condition("AssistantDeployment", "support-bot", "Reconciling", "Unschedulable")
    assert "fits on no node" in message(mine)


async def test_the_deployment_is_ready_when_its_pods_are(rig: OperatorRig) -> None:
    server = await served(rig, replicas=2)
    obj = await rig.get("AssistantDeployment", "support-bot")
    assert obj["status"]["readyReplicas"] == 2
    found = await rig.until_condition("ModelServer", server, "Ready", "AllPodsReady")
    assert {conditions(found)[kind]["status"] for kind in ("ModelPresent", "ModelMatched", "Warm")} == {"True"}


async def test_kubectl_scale_scales_the_pods(rig: OperatorRig) -> None:
    server = await served(rig)
    rig.cluster.kubectl("scale", "astdep", "support-bot", "--replicas=3", f"--namespace={rig.namespace}")
    await rig.until("StatefulSet", server, lambda o: o["spec"]["replicas"] == 3)
    await all_pods_ready(rig, server, 3)
    await rig.until("AssistantDeployment", "support-bot", lambda o: o["status"].get("stableReplicas") == 3)
    rig.cluster.kubectl("scale", "astdep", "support-bot", "--replicas=0", f"--namespace={rig.namespace}")
    await rig.until("StatefulSet", server, lambda o: o["spec"]["replicas"] == 0)
    await rig.until_condition("AssistantDeployment", "support-bot", "Ready", "ScaledToZero")


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("statefulset", {"spec": {"replicas": 5}}),
        ("service", {"spec": {"selector": {"app": "mine"}}}),
        ("poddisruptionbudget", {"spec": {"maxUnavailable": 5}}),
        ("networkpolicy", {"spec": {"ingress": [{}]}}),
        ("service", {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}),
        ("service", {"metadata": {"ownerReferences": None}}),
    ],
)
async def test_a_child_that_somebody_changed_is_put_right(rig: OperatorRig, kind: str, change: Object) -> None:
    server = await deployed(rig)
    names = {"statefulset": "StatefulSet", "service": "Service", "networkpolicy": "NetworkPolicy"}
    read = names.get(kind, "PodDisruptionBudget")
    before = await rig.get(read, server)
    patch(rig, kind, server, change)

    def same(obj: Object) -> bool:
        parts = ("labels", "ownerReferences")
        return bool(
            obj["spec"] == before["spec"]
            and all(obj["metadata"].get(part) == before["metadata"].get(part) for part in parts)
            and obj["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
        )

    await rig.until(read, server, same)


@pytest.mark.parametrize("kind", ["StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy"])
async def test_a_child_that_somebody_deleted_is_made_again(rig: OperatorRig, kind: str) -> None:
    server = await deployed(rig)
    uid = (await rig.get(kind, server))["metadata"]["uid"]
    await rig.delete(kind, server)
    await rig.until(kind, server, lambda o: o["metadata"]["uid"] != uid)


async def test_a_model_server_that_somebody_deleted_is_made_again_with_all_its_children(rig: OperatorRig) -> None:
    server = await served(rig)
    uid = (await rig.get("ModelServer", server))["metadata"]["uid"]
    await rig.delete("ModelServer", server)
    again = await rig.until("ModelServer", server, lambda o: o["metadata"]["uid"] != uid)
    for kind in ("StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy"):
        await rig.until(kind, server, lambda o: o["metadata"]["ownerReferences"][0]["uid"] == again["metadata"]["uid"])
    await all_pods_ready(rig, server)
    await rig.until_condition("AssistantDeployment", "support-bot", "Ready", "Serving")


async def test_a_full_quota_is_told_and_gets_better_when_it_is_raised(rig: OperatorRig) -> None:
    await rig.stop()
    rig.cluster.kubectl("create", "quota", "small", "--hard=pods=0", f"--namespace={rig.models}")
    await rig.start()
    await rig.apply(make_assistant())
    await rig.apply(make_deployment())
    obj = await rig.until_condition("AssistantDeployment", "support-bot", "Stalled", "QuotaExceeded")
    assert "exceeded quota: small" in message(obj)
    assert "raise the ResourceQuota" in message(obj)
    server = str(obj["status"]["candidate"]["modelServer"])
    rig.cluster.kubectl("delete", "quota", "small", f"--namespace={rig.models}")
    # The StatefulSet controller backs off on its own; a change of the set makes it look at once.
    patch(rig, "statefulset", server, {"metadata": {"annotations": {"look": "again"}}})
    await rig.until_condition("AssistantDeployment", "support-bot", "Reconciling", "Unschedulable")


async def test_a_refused_pod_is_told(rig: OperatorRig) -> None:
    await rig.stop()
    rig.platform["profiles"][0]["priorityClassName"] = "none-such"
    await rig.start()
    await rig.apply(make_assistant())
    await rig.apply(make_deployment())
    obj = await rig.until_condition("AssistantDeployment", "support-bot", "Stalled", "PodRefused")
    assert "none-such" in message(obj)


async def test_pod_security_accepts_our_pods_and_a_refusal_is_told(rig: OperatorRig) -> None:
    rig.cluster.kubectl("label", "namespace", rig.models, "pod-security.kubernetes.io/enforce=restricted")
    server = await deployed(rig)
    assert (await rig.get("Pod", f"{server}-0"))["spec"]["securityContext"]["runAsNonRoot"] is True


async def test_an_edited_profile_rolls_in_place_and_leaves_the_storage_alone(rig: OperatorRig) -> None:
    server = await served(rig)
    before = await rig.get("StatefulSet", server)
    await rig.stop()
    rig.platform["profiles"][0] |= {"image": "ollama/ollama:0.25.0", "storage": {"size": "99Gi"}}
    await rig.start()

    def rolled(obj: Object) -> bool:
        return bool(obj["spec"]["template"]["spec"]["initContainers"][0]["image"] == "ollama/ollama:0.25.0")

    after = await rig.until("StatefulSet", server, rolled)
    assert after["spec"]["volumeClaimTemplates"] == before["spec"]["volumeClaimTemplates"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    await rig.until_condition("ModelServer", server, "Reconciling")


async def test_a_profile_that_is_gone_is_told_and_its_pods_stay(rig: OperatorRig) -> None:
    server = await served(rig)
    before = await rig.get("StatefulSet", server)
    await rig.stop()
    rig.platform |= {"defaultProfile": "other", "profiles": rig.platform["profiles"][1:]}
    await rig.start()
    obj = await rig.until_condition("ModelServer", server, "Stalled", "ProfileUnknown")
    assert "listed: other" in message(obj)
    assert (await rig.get("StatefulSet", server))["metadata"]["generation"] == before["metadata"]["generation"]


async def test_a_new_model_waits_for_its_pods_while_the_old_ones_serve(rig: OperatorRig) -> None:
    old = await served(rig)
    await rig.apply(make_assistant(spec={"model": {"name": OTHER_MODEL, "digest": OTHER_DIGEST}}))
    obj = await rig.until("AssistantDeployment", "support-bot", lambda o: "candidate" in o["status"])
    new = str(obj["status"]["candidate"]["modelServer"])
    assert obj["status"]["candidate"]["class"] == "ModelChange"
    assert obj["status"]["modelServer"] == old
    assert conditions(obj)["Available"]["status"] == "True"
    await rig.until("StatefulSet", new, lambda o: bool(o["status"].get("replicas")))
    assert (await rig.get("StatefulSet", old))["spec"]["replicas"] == 1
    await all_pods_ready(rig, new)
    done = await rig.until("AssistantDeployment", "support-bot", lambda o: o["status"]["modelServer"] == new)
    assert "candidate" not in done["status"]
    await rig.until_gone("ModelServer", old)
    await rig.until_gone("StatefulSet", old)


async def test_another_profile_is_a_rebind_of_the_same_revision(rig: OperatorRig) -> None:
    old = await served(rig)
    revision = (await rig.get("AssistantDeployment", "support-bot"))["status"]["activeRevision"]
    await rig.apply(make_deployment(spec={"runtime": {"profile": "other"}}))
    obj = await rig.until("AssistantDeployment", "support-bot", lambda o: "candidate" in o["status"])
    assert obj["status"]["candidate"]["class"] == "Rebind"
    new = str(obj["status"]["candidate"]["modelServer"])
    await rig.until("StatefulSet", new, lambda o: bool(o["status"].get("replicas")))
    await all_pods_ready(rig, new)
    done = await rig.until("AssistantDeployment", "support-bot", lambda o: o["status"]["modelServer"] == new)
    assert done["status"]["activeRevision"] == revision
    assert len(done["status"]["history"]) == 1
    await rig.until_gone("ModelServer", old)


async def test_a_deadline_that_passes_is_told_with_the_cause(rig: OperatorRig) -> None:
    deadlines = {"pullSeconds": 10, "startSeconds": 10, "rolloutSeconds": 10}
    await rig.apply(make_assistant())
    await rig.apply(make_deployment(spec={"deadlines": deadlines}))
    obj = await rig.until_condition("AssistantDeployment", "support-bot", "Stalled", "ProgressDeadlineExceeded")
    assert message(obj).startswith("spec.deadlines.")
    assert "fits on no node" in message(obj)


async def test_a_pod_on_a_lost_node_is_given_up(rig: OperatorRig) -> None:
    node = f"lost-{rig.namespace}"
    server = await deployed(rig)
    await rig.client.request("POST", "/api/v1/nodes", body={
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": node}, "spec": {"unschedulable": True},
    })  # fmt: skip
    try:
        await rig.client.request("POST", f"/api/v1/namespaces/{rig.models}/pods/{server}-0/binding", body={
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": f"{server}-0"},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        })  # fmt: skip
        state = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "",
                 "lastTransitionTime": "2026-01-10T08:00:00Z", "lastHeartbeatTime": "2026-01-10T08:00:00Z"}  # fmt: skip
        rig.cluster.kubectl(
            "patch", "node", node, "--subresource=status", "--type=merge",
            f"--patch={json.dumps({'status': {'conditions': [state]}})}",
        )  # fmt: skip
        pod_is(rig, f"{server}-0", ready=False, podIP="192.0.2.1", podIPs=[{"ip": "192.0.2.1"}], phase="Running")
        uid = (await rig.get("Pod", f"{server}-0"))["metadata"]["uid"]
        await rig.until("Pod", f"{server}-0", lambda o: o["metadata"]["uid"] != uid)
    finally:
        rig.cluster.kubectl("delete", "node", node)


async def test_nobody_deletes_a_server_that_somebody_begins_to_use(rig: OperatorRig) -> None:
    server = await served(rig)
    await rig.delete("AssistantDeployment", "support-bot")
    await rig.until("ModelServer", server, lambda o: "unusedSince" in o["status"])
    await rig.apply(make_deployment())
    await rig.until("ModelServer", server, lambda o: "unusedSince" not in o["status"])
    await asyncio.sleep(float(rig.platform["unusedSeconds"]) + 1)

    async def ready() -> bool:
        if await rig.find("Pod", f"{server}-0"):
            pod_is(rig, f"{server}-0", ready=True)
        obj = await rig.get("AssistantDeployment", "support-bot")
        return conditions(obj).get("Ready", {}).get("status") == "True"

    await eventually(ready, rig.tail)
