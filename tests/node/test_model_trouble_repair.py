"""Hands that touch what is retinue's, pods and operators that die, and the quiet when all is well."""

import time
from typing import Any

import pytest

from testbed.release import condition, until
from trouble_stage import BASE, HOME, PATIENCE, Stage

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

OURS = "assistants,assistanttemplates,assistantrevisions,assistantdeployments,modelservers"
CHILDREN = "statefulsets,services,poddisruptionbudgets,networkpolicies"
QUIET_SECONDS = 20
SETTLE_SECONDS = 3
"""Long enough for what the last test set going to be written down."""


def leader(stage: Stage) -> str:
    """Pod name of the operator that holds the Lease; empty while none does."""
    lease = stage.release.object("lease", "retinue-operator", stage.release.namespace)
    holder = str(lease["spec"].get("holderIdentity") or "")
    pods = [p["metadata"]["name"] for p in operators(stage)]
    return next((name for name in pods if holder.startswith(name)), "")


def operators(stage: Stage) -> list[dict[str, Any]]:
    """The operator's pods."""
    return stage.release.objects("pods", stage.release.namespace, "app.kubernetes.io/component=operator")


def versions(stage: Stage) -> dict[str, str]:
    """resourceVersion of every object of our kinds and of all children."""
    found = stage.release.objects(OURS) + stage.release.objects(CHILDREN, stage.models)
    return {f"{o['kind']}/{o['metadata']['name']}": o["metadata"]["resourceVersion"] for o in found}


def made_again(stage: Stage, kind: str, name: str, old: str) -> None:
    """Waits until a child of that name exists that is not the one of before."""
    stage.seen(
        lambda: stage.release.object(kind, name, stage.models),
        lambda obj: bool(obj["metadata"]["uid"] != old),
        f"{kind} {name} made again",
    )


def settled(stage: Stage) -> None:
    """Waits until nothing but `home` is left and its server is Ready with one user."""

    def only_home() -> bool:
        servers = stage.release.objects("modelservers", stage.models)
        return len(servers) == 1 and servers[0]["status"].get("userCount") == 1

    until(only_home, "only the server of `home` left", PATIENCE)
    stage.ready(HOME)


def test_children_that_somebody_deletes_or_edits_are_repaired(stage: Stage) -> None:
    name = stage.serving("drift", runtime={"sharing": "Dedicated"})["status"]["modelServer"]
    where = ["-n", stage.models]
    removed = ("service", "poddisruptionbudget", "networkpolicy")
    old = {kind: stage.release.object(kind, name, stage.models)["metadata"]["uid"] for kind in removed}
    for kind in removed:
        stage.kubectl(*where, "delete", kind, name)
    stage.kubectl(*where, "scale", "statefulset", name, "--replicas=3")
    for kind in removed:
        made_again(stage, kind, name, old[kind])
    stage.seen(
        lambda: stage.release.object("statefulset", name, stage.models),
        lambda obj: obj["spec"]["replicas"] == 1 and obj["status"]["replicas"] == 1,
        "one replica again",
    )
    stage.kubectl(*where, "label", "service", name, "retinue.dev/model-server-")
    stage.seen(
        lambda: stage.release.object("service", name, stage.models),
        lambda obj: obj["metadata"]["labels"].get("retinue.dev/model-server") == name,
        "the label again",
    )
    stage.ready("drift")
    until(lambda: stage.ask("drift").status_code == 200, "an answer through the new Service", 60)


def test_a_deleted_workload_and_a_deleted_pod_come_back(stage: Stage) -> None:
    name = stage.serving("fallen", runtime={"sharing": "Dedicated"})["status"]["modelServer"]
    (pod,) = stage.pods(name)
    stage.kubectl("-n", stage.models, "delete", "pod", f"{name}-0", "--grace-period=1")
    until(lambda: [p["metadata"]["uid"] for p in stage.pods(name)] not in ([], [pod["metadata"]["uid"]]), "a new pod")
    stage.ready("fallen")
    old = stage.release.object("statefulset", name, stage.models)["metadata"]["uid"]
    stage.kubectl("-n", stage.models, "delete", "statefulset", name)
    made_again(stage, "statefulset", name, old)
    stage.seen(lambda: stage.bound("fallen"), lambda s: s["status"].get("readyReplicas") == 1, "its pod Ready")
    stage.ready("fallen")
    assert stage.ask("fallen").status_code == 200


def test_a_deployment_deleted_and_made_again_under_its_name_serves(stage: Stage) -> None:
    runtime = {"sharing": "Dedicated"}
    before = stage.serving("again", runtime=runtime)
    stage.remove("again")
    after = stage.serving("again", runtime=runtime)
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["status"]["modelServer"] == before["status"]["modelServer"]
    assert stage.ask("again").status_code == 200


def test_a_model_server_deleted_by_hand_is_made_again(stage: Stage) -> None:
    name = stage.serving("byhand", runtime={"sharing": "Dedicated"})["status"]["modelServer"]
    old = stage.server(name)["metadata"]["uid"]
    stage.kubectl("-n", stage.models, "delete", "modelserver", name)
    made_again(stage, "modelserver", name, old)
    stage.seen(lambda: stage.server(name), lambda s: s["status"].get("readyReplicas") == 1, "its pod Ready")
    stage.ready("byhand")
    assert stage.ask("byhand").status_code == 200


def test_a_model_change_ends_the_same_when_the_leading_operator_is_killed_in_it(stage: Stage) -> None:
    stage.registry.push_variant(BASE, "halfway:135m", system="You are half way.")
    before = stage.serving("killed", runtime={"sharing": "Dedicated"})
    stage.registry.slow_blobs(20_000_000)
    stage.change_model("killed", "halfway:135m")
    stage.seen(lambda: stage.deployment("killed"), lambda d: "candidate" in d["status"], "a candidate")
    first = leader(stage)
    assert first
    stage.kubectl("-n", stage.release.namespace, "delete", "pod", first, "--force", "--grace-period=0")
    stage.still_serves("killed", before)
    after = stage.ready("killed")["status"]
    assert "candidate" not in after
    assert stage.bound("killed")["spec"]["model"]["name"] == "halfway:135m"
    assert [entry["revision"] for entry in after["history"]].count(after["activeRevision"]) == 1
    stage.gone("modelserver", before["status"]["modelServer"])
    assert leader(stage) not in ("", first)


def test_nothing_is_written_while_nothing_changes_nor_over_a_restart(stage: Stage) -> None:
    settled(stage)
    time.sleep(SETTLE_SECONDS)
    before, written = versions(stage), stage.operator_writes()
    time.sleep(QUIET_SECONDS)
    assert stage.operator_writes() == written
    old = {p["metadata"]["name"] for p in operators(stage)}
    stage.kubectl("-n", stage.release.namespace, "delete", "pod", "-l", "app.kubernetes.io/component=operator")
    until(lambda: leader(stage) not in ("", *old), "another operator leads", PATIENCE)
    time.sleep(QUIET_SECONDS)
    assert stage.operator_writes() == written
    assert versions(stage) == before
    assert condition(stage.deployment(HOME), "Ready")["status"] == "True"
