"""Model pods that the cluster does not take: quota, admission, no room; and runtimes that tenants may not name."""

import json

import pytest

from testbed.release import condition
from trouble_stage import TENANT, Stage

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]


def forbid_pods(stage: Stage, resource: str = "pods") -> None:
    """A ResourceQuota that is used up by what runs already, in force when this returns."""
    spec = {"hard": {resource: "1"}}
    meta = {"name": "full", "namespace": stage.models}
    stage.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": spec})
    stage.seen(
        lambda: stage.release.object("resourcequota", "full", stage.models),
        lambda quota: bool(quota.get("status", {}).get("used")),
        "the quota in force",
    )


def test_a_quota_refuses_new_pods_until_it_is_raised(stage: Stage) -> None:
    before = stage.serving("quota")
    forbid_pods(stage)
    stage.runtime("quota", profile="other-cpu", sharing="Dedicated")
    message = stage.both_say("quota", "Stalled", "QuotaExceeded")
    assert "exceeded quota: full" in message
    assert "raise the ResourceQuota" in message
    stage.still_serves("quota", before)
    stage.kubectl("-n", stage.models, "delete", "resourcequota", "full")
    after = stage.ready("quota")["status"]
    assert after["modelServer"] != before["status"]["modelServer"]
    assert after["activeRevision"] == before["status"]["activeRevision"]


def test_a_quota_on_the_workload_itself_is_told_in_the_words_of_the_api_server(stage: Stage) -> None:
    before = stage.serving("sets")
    forbid_pods(stage, "count/statefulsets.apps")
    stage.runtime("sets", sharing="Dedicated")
    message = stage.both_say("sets", "Stalled", "StatefulSetRefused")
    assert "exceeded quota: full" in message
    stage.still_serves("sets", before)
    left = stage.coming("sets")["metadata"]["name"]
    stage.runtime("sets")
    assert "candidate" not in stage.ready("sets")["status"]
    stage.gone("modelserver", left)


def test_an_admission_rule_of_the_models_namespace_is_named(stage: Stage) -> None:
    before = stage.serving("limits")
    limits = [{"type": "Container", "max": {"memory": "1Gi"}}]
    meta = {"name": "small-only", "namespace": stage.models}
    stage.apply({"apiVersion": "v1", "kind": "LimitRange", "metadata": meta, "spec": {"limits": limits}})
    stage.runtime("limits", sharing="Dedicated")
    message = stage.both_say("limits", "Stalled", "PodRefused")
    assert "maximum memory usage per Container is 1Gi" in message
    assert "admission rule" in message
    stage.still_serves("limits", before)
    stage.kubectl("-n", stage.models, "delete", "limitrange", "small-only")
    assert stage.ready("limits")["status"]["modelServer"] != before["status"]["modelServer"]


def test_a_profile_that_fits_on_no_node_says_so(stage: Stage) -> None:
    before = stage.serving("big")
    stage.runtime("big", profile="too-big", sharing="Dedicated")
    message = stage.both_say("big", "Reconciling", "Unschedulable")
    assert "Insufficient cpu" in message
    assert "spec.runtime.profile" in message
    stage.still_serves("big", before)
    left = stage.coming("big")["metadata"]["name"]
    stage.runtime("big")
    assert stage.ready("big")["status"]["modelServer"] == before["status"]["modelServer"]
    stage.nothing_left_of(left)


@pytest.mark.parametrize(
    ("field", "reason", "listed"),
    [("profile", "ProfileNotAllowed", "small-cpu"), ("externalServer", "ExternalServerUnknown", "lab")],
)
def test_a_runtime_that_is_not_listed_is_refused_by_name(stage: Stage, field: str, reason: str, listed: str) -> None:
    before = stage.serving("tenant")
    stage.runtime("tenant", **{field: "gpu-of-my-own"})
    message = stage.says(lambda: stage.deployment("tenant"), "Stalled", reason)
    assert f"spec.runtime.{field}" in message
    assert "gpu-of-my-own" in message
    assert listed in message
    assert condition(stage.deployment("tenant"), "Ready")["status"] == "False"
    stage.still_serves("tenant", before)
    stage.runtime("tenant")
    assert stage.ready("tenant")["status"]["modelServer"] == before["status"]["modelServer"]


def test_a_namespace_without_an_environment_is_told_the_command(stage: Stage) -> None:
    before = stage.serving("nowhere")
    stage.kubectl("label", "namespace", TENANT, "retinue.dev/environment-")
    try:
        message = stage.says(lambda: stage.deployment("nowhere"), "Stalled", "EnvironmentUnknown")
        assert f"kubectl label namespace {TENANT}" in message
        stage.still_serves("nowhere", before)
    finally:
        stage.kubectl("label", "namespace", TENANT, "retinue.dev/environment=development")
    stage.ready("nowhere")
    assert json.loads(stage.kubectl("-n", TENANT, "get", "astdep", "home", "-o", "json"))["status"]["environment"]
