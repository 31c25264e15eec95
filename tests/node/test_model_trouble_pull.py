"""Models that do not arrive, are not what they were, or cannot be loaded: real pods, a real registry, a real disk."""

import pytest

from testbed.release import condition, is_ready, until
from trouble_stage import BASE, Stage

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]


def test_an_unknown_model_stalls_the_assistant_and_the_next_name_recovers(stage: Stage) -> None:
    before = stage.serving("typo")
    stage.change_model("typo", "smollm3:135m")
    message = stage.says(lambda: stage.assistant("typo"), "Stalled", "ModelUnknown")
    assert "spec.model.name" in message
    assert "smollm3:135m" in message
    stage.says(lambda: stage.assistant("typo"), "ModelResolved", "ModelUnknown", status="False")
    stage.still_serves("typo", before)
    stage.change_model("typo", "gemma3:270m")
    assert stage.ready("typo")["status"]["modelServer"] != before["status"]["modelServer"]


def test_a_deployment_of_an_assistant_that_never_had_a_model_says_why(stage: Stage) -> None:
    stage.write("never", "smollm3:135m")
    message = stage.says(lambda: stage.deployment("never"), "Stalled", "AssistantStalled")
    assert "spec.model.name" in message
    assert "smollm3:135m" in message
    stage.change_model("never", BASE)
    stage.ready("never")


def test_a_pull_that_is_refused_and_cut_recovers_by_itself(stage: Stage) -> None:
    stage.registry.push_variant(BASE, "slowly:135m", system="You are slow.")
    before = stage.serving("slow")
    stage.registry.refuse_blobs(503)
    stage.change_model("slow", "slowly:135m")
    message = stage.both_say("slow", "Reconciling", "PullFailed")
    assert "slowly:135m" in message
    assert "tried again by itself" in message
    assert condition(stage.deployment("slow"), "Ready")["status"] == "Unknown"
    stage.still_serves("slow", before)

    stage.registry.resume_blobs()
    stage.registry.slow_blobs(4_000_000)
    pulling = stage.seen(
        lambda: stage.coming("slow"),
        lambda server: server["status"].get("pull", {}).get("completedBytes", 0) > 0,
        "progress of the pull in the status",
    )
    assert pulling["status"]["pull"]["totalBytes"] > pulling["status"]["pull"]["completedBytes"]
    assert {"startedAt", "deadlineAt"} <= pulling["status"]["pull"].keys()
    stage.registry.cut_blobs()
    stage.still_serves("slow", before)
    stage.registry.resume_blobs()
    after = stage.ready("slow")["status"]
    assert after["modelServer"] == pulling["metadata"]["name"]
    assert "pull" not in stage.bound("slow")["status"]


def test_a_moved_tag_is_never_served_while_the_old_pod_goes_on(stage: Stage) -> None:
    stage.registry.push_variant(BASE, "moving:135m", system="You are first.")
    before = stage.serving("moved", "moving:135m")
    stage.registry.push_variant(BASE, "moving:135m", system="You are second.")
    stage.patch("assistantdeployment", "moved", replicas=2)
    message = stage.says(lambda: stage.bound("moved"), "Stalled", "TagMoved")
    assert "moving:135m" in message
    assert "new revision" in message
    matched = stage.says(lambda: stage.deployment("moved"), "ModelMatched", "TagMoved", status="False")
    assert stage.pods(before["status"]["modelServer"])[1]["metadata"]["name"] in matched
    stage.says(lambda: stage.deployment("moved"), "Stalled", "TagMoved")
    stage.still_serves("moved", before)
    assert stage.deployment("moved")["status"]["readyReplicas"] == 1

    stage.patch("assistant", "moved", systemPrompt={"inline": "You are the third."})
    after = stage.ready("moved")["status"]
    assert after["modelServer"] != before["status"]["modelServer"]
    assert after["readyReplicas"] == 2
    stage.gone("modelserver", before["status"]["modelServer"])


def test_a_model_that_cannot_be_loaded_says_so_and_runs_into_its_deadline(stage: Stage) -> None:
    stage.registry.push_broken("broken:135m")
    before = stage.serving("broken", deadlines={"startSeconds": 10})
    stage.change_model("broken", "broken:135m")
    message = stage.both_say("broken", "Reconciling", "LoadFailed")
    assert "broken:135m" in message
    assert "kubectl logs" in message
    stage.still_serves("broken", before)
    late = stage.says(lambda: stage.deployment("broken"), "Stalled", "ProgressDeadlineExceeded")
    assert "spec.deadlines.startSeconds" in late
    assert "broken:135m" in late
    stage.still_serves("broken", before)
    left = stage.coming("broken")["metadata"]["name"]
    stage.change_model("broken", BASE)
    assert "candidate" not in stage.ready("broken")["status"]
    stage.gone("modelserver", left)


def test_a_full_disk_stalls_and_a_larger_profile_recovers(stage: Stage) -> None:
    before = stage.serving("cramped")
    stage.runtime("cramped", profile="cramped")
    message = stage.both_say("cramped", "Stalled", "DiskFull")
    assert "no space left" in message
    assert "storage.size" in message
    assert condition(stage.deployment("cramped"), "Ready")["status"] == "False"
    stage.still_serves("cramped", before)
    left = stage.coming("cramped")["metadata"]["name"]
    stage.runtime("cramped", profile="other-cpu")
    after = stage.ready("cramped")["status"]
    assert after["activeRevision"] == before["status"]["activeRevision"]
    stage.gone("modelserver", left)


def test_a_ready_pod_shows_no_phase_of_before(stage: Stage) -> None:
    stage.serving("phases", runtime={"sharing": "Dedicated"})
    until(lambda: is_ready(stage.bound("phases")), "the ModelServer Ready")
    (pod,) = stage.bound("phases")["status"]["pods"]
    assert (pod["ready"], pod["phase"], pod["loaded"]) == (True, "Ready", True)
