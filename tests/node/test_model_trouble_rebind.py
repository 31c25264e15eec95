"""Deployments that move between model servers, stop and go on: the new server first, then the switch, then the old."""

import pytest

from testbed.release import condition
from trouble_stage import BASE, HOME, TENANT, Stage

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]


def test_two_assistants_on_one_model_share_its_pod(stage: Stage) -> None:
    stage.serving("first")
    stage.serving("second")
    server = stage.bound("first")
    assert stage.deployment("second")["status"]["modelServer"] == server["metadata"]["name"]
    users = stage.seen(
        lambda: stage.bound("first"),
        lambda s: {u["name"] for u in s["status"].get("users", [])} == {HOME, "first", "second"},
        "three users",
    )
    assert users["status"]["userCount"] == 3
    assert len(stage.pods(server["metadata"]["name"])) == 1
    assert [stage.ask(name).status_code for name in ("first", "second")] == [200, 200]


def test_a_rebind_to_dedicated_and_back_keeps_the_revision(stage: Stage) -> None:
    before = stage.serving("moves")["status"]
    stage.runtime("moves", sharing="Dedicated")
    coming = stage.seen(
        lambda: stage.deployment("moves"), lambda d: "candidate" in d["status"], "a candidate beside what serves"
    )["status"]
    assert coming["candidate"]["class"] == "Rebind"
    assert coming["modelServer"] == before["modelServer"]
    dedicated = stage.ready("moves")["status"]
    own = stage.bound("moves")
    assert own["spec"]["dedicatedTo"] == f"{TENANT}/moves"
    assert dedicated["activeRevision"] == before["activeRevision"]
    assert stage.ask("moves").status_code == 200
    stage.runtime("moves")
    assert stage.ready("moves")["status"]["modelServer"] == before["modelServer"]
    stage.gone("modelserver", own["metadata"]["name"])


def test_a_rebind_to_another_profile_switches_when_its_server_is_ready(stage: Stage) -> None:
    before = stage.serving("profiles", runtime={"sharing": "Dedicated"})
    old = before["status"]["modelServer"]
    stage.runtime("profiles", sharing="Dedicated", profile="other-cpu")
    stage.seen(lambda: stage.deployment("profiles"), lambda d: "candidate" in d["status"], "a candidate")
    stage.still_serves("profiles", before)
    after = stage.ready("profiles")["status"]
    assert after["modelServer"] != old
    assert stage.bound("profiles")["spec"]["profile"] == "other-cpu"
    assert after["history"] == before["status"]["history"]
    stage.gone("modelserver", old)


def test_an_external_server_serves_without_pods_and_its_loss_is_told(stage: Stage) -> None:
    before = stage.serving("outside")
    stage.runtime("outside", externalServer="lab")
    after = stage.ready("outside")["status"]
    server = stage.bound("outside")
    assert server["spec"]["externalServer"] == "lab"
    assert not stage.pods(after["modelServer"])
    assert condition(server, "ModelMatched")["status"] == "True"
    assert stage.ask("outside").status_code == 200

    stage.external.kill()
    message = stage.says(lambda: stage.bound("outside"), "Reconciling", "ExternalServerUnreachable")
    assert "lab" in message
    assert "externalServers" in message
    stage.says(lambda: stage.deployment("outside"), "Reconciling", "ExternalServerUnreachable")
    assert condition(stage.deployment("outside"), "Available")["status"] == "False"
    stage.external.start()
    stage.ready("outside")
    assert stage.ask("outside").status_code == 200

    stage.runtime("outside")
    assert stage.ready("outside")["status"]["modelServer"] == before["status"]["modelServer"]
    stage.gone("modelserver", after["modelServer"])


def test_a_model_that_an_external_server_does_not_have_is_named(stage: Stage) -> None:
    stage.registry.push_variant(BASE, "indoors:135m", system="You stay in.")
    before = stage.serving("indoors", "indoors:135m")
    stage.runtime("indoors", externalServer="lab")
    message = stage.both_say("indoors", "Stalled", "ModelUnknown")
    assert "ollama pull indoors:135m" in message
    stage.still_serves("indoors", before)
    stage.runtime("indoors")
    stage.ready("indoors")


def test_a_suspended_deployment_keeps_its_place_and_goes_on(stage: Stage) -> None:
    before = stage.serving("pausing", runtime={"sharing": "Dedicated"})["status"]
    stage.patch("assistantdeployment", "pausing", suspend=True)
    message = stage.says(lambda: stage.deployment("pausing"), "Ready", "Suspended", status="Unknown")
    assert "spec.suspend" in message
    stage.seen(
        lambda: stage.server(before["modelServer"]), lambda s: s["status"].get("replicas", 0) == 0, "no pod for it"
    )
    refused = stage.ask("pausing")
    assert refused.status_code == 503
    assert "suspend" in refused.json()["error"]["message"]
    stage.patch("assistantdeployment", "pausing", suspend=False)
    after = stage.ready("pausing")["status"]
    assert after["modelServer"] == before["modelServer"]
    assert after["activeRevision"] == before["activeRevision"]
    assert stage.ask("pausing").status_code == 200


def test_a_server_that_nobody_uses_goes_with_all_it_owned(stage: Stage) -> None:
    server = stage.serving("leaving", runtime={"sharing": "Dedicated"})["status"]["modelServer"]
    stage.remove("leaving")
    stage.nothing_left_of(server)
    assert stage.ask(HOME).status_code == 200
