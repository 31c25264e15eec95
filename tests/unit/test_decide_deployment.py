"""AssistantDeployment: what is wanted, what is served, and what its conditions say about it."""

import pytest

from builders import (
    OTHER_DIGEST,
    OTHER_MODEL,
    make_deployment,
    make_model_server,
    make_namespace,
)
from deployment_cases import (
    GEMMA,
    NAME,
    OTHER,
    Object,
    active,
    authored,
    decide,
    found,
    look,
    message,
    pinned,
    serving,
    status_of,
    troubled,
)
from retinue.domain.plan import Plan

pytestmark = pytest.mark.unit


def test_a_new_deployment_makes_the_model_server_that_its_revision_needs() -> None:
    plan = decide(look(pinned()))
    (server,) = plan.apply
    expected = make_model_server()
    assert server["metadata"]["name"] == expected["metadata"]["name"]
    assert server["metadata"]["namespace"] == "retinue-models"
    assert server["spec"] == expected["spec"]
    status = status_of(plan)
    assert status["candidate"]["class"] == "ModelChange"
    assert status["selector"] == "retinue.dev/deployment=support-bot"
    assert (status["environment"], status["mode"]) == ("development", "GitOps")
    assert found(plan)["Ready"][0] == "Unknown"
    assert found(plan)["Available"] == ("False", "NothingActive")


def test_it_is_ready_when_its_server_is() -> None:
    plan = decide(look(pinned(), serving()))
    assert plan.apply == ()
    assert found(plan) == {
        "Available": ("True", "Serving"),
        "ModelMatched": ("True", "DigestMatches"),
        "Ready": ("True", "Serving"),
    }
    assert "r7" in message(plan)
    status = status_of(plan)
    assert (status["activeRevision"], status["modelServer"]) == (NAME, make_model_server()["metadata"]["name"])
    assert (status["replicas"], status["stableReplicas"], status["readyReplicas"]) == (1, 1, 1)
    assert [e.reason for e in plan.events] == ["Serving"]


def test_a_second_look_at_the_same_writes_the_same_status() -> None:
    first = status_of(decide(look(pinned(), serving())))
    second = decide(look(pinned(status=first), serving()), after=9999)
    assert second.status == first
    assert (second.apply, second.events, second.requeue_after) == ((), (), None)


def test_latest_follows_the_assistant_and_a_new_prompt_needs_no_other_server() -> None:
    plan = decide(look(make_deployment(status=active()), serving(), assistant=authored(OTHER)))
    assert status_of(plan)["activeRevision"] == OTHER["metadata"]["name"]
    assert status_of(plan)["mode"] == "Latest"
    assert plan.apply == ()
    assert found(plan)["Ready"] == ("True", "Serving")


def test_a_switch_that_no_transition_tells_is_an_event_of_its_own() -> None:
    before = status_of(decide(look(pinned(), serving())))
    plan = decide(look(make_deployment(status=before), serving(), assistant=authored(OTHER)))
    assert status_of(plan)["activeRevision"] == OTHER["metadata"]["name"]
    (event,) = plan.events
    assert (event.type, event.reason) == ("Normal", "RevisionActivated")
    assert OTHER["metadata"]["name"] in event.message
    assert NAME in event.message


def test_a_new_model_waits_for_its_server_while_the_old_one_serves() -> None:
    plan = decide(look(pinned(GEMMA, active()), serving()))
    assert [a["spec"]["model"]["name"] for a in plan.apply] == [OTHER_MODEL]
    status = status_of(plan)
    assert (status["activeRevision"], status["desiredRevision"]) == (NAME, GEMMA["metadata"]["name"])
    assert found(plan)["Available"] == ("True", "Serving")
    assert found(plan)["Ready"][0] == "Unknown"
    gemma = serving(model=OTHER_MODEL, digest=OTHER_DIGEST)
    done = decide(look(pinned(GEMMA, status), serving(), gemma), after=30)
    assert status_of(done)["activeRevision"] == GEMMA["metadata"]["name"]
    assert status_of(done)["modelServer"] == gemma["metadata"]["name"]
    assert "candidate" not in status_of(done)


@pytest.mark.parametrize("kind", ["Stalled", "Reconciling"])
@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("PullFailed", "pod x-0: connection refused"),
        ("DiskFull", "pod x-0: no space left on device; raise storage.size"),
        ("TagMoved", "pod x-0: digest differs"),
        ("QuotaExceeded", "exceeded quota: small"),
        ("PodSecurityRefused", "violates PodSecurity"),
        ("Unschedulable", "0/1 nodes are available"),
    ],
)
def test_the_trouble_of_the_server_is_told_in_its_own_words(kind: str, reason: str, text: str) -> None:
    for before in (None, active()):
        plan = decide(look(pinned(status=before), troubled(kind, reason, text)))
        assert found(plan)[kind] == ("True", reason)
        assert text in message(plan)


def test_a_passed_deadline_is_stalled_and_names_the_servers_message() -> None:
    server = troubled("Reconciling", "Pulling", "pulling llama3.2:3b: 40 %")
    first = status_of(decide(look(pinned(), server)))
    early = decide(look(pinned(status=first), server), after=10)
    assert found(early)["Reconciling"] == ("True", "Pulling")
    assert early.requeue_after == 3590
    late = decide(look(pinned(status=first), server), after=3600)
    assert found(late)["Stalled"] == ("True", "ProgressDeadlineExceeded")
    assert "40 %" in message(late)


@pytest.mark.parametrize(
    ("runtime", "server"),
    [
        ({"profile": "gpu"}, {"profile": "gpu"}),
        ({"sharing": "Dedicated"}, {"dedicated_to": "bots-dev/support-bot"}),
        ({"externalServer": "workstation"}, {"external_server": "workstation"}),
    ],
)
def test_another_runtime_is_a_rebind_to_another_server(runtime: Object, server: Object) -> None:
    waiting = decide(look(pinned(status=active(), runtime=runtime), serving()))
    target = make_model_server(**server)
    assert [a["metadata"]["name"] for a in waiting.apply] == [target["metadata"]["name"]]
    assert status_of(waiting)["candidate"]["class"] == "Rebind"
    assert status_of(waiting)["modelServer"] == make_model_server()["metadata"]["name"]
    done = decide(look(pinned(status=waiting.status, runtime=runtime), serving(), serving(**server)), after=5)
    assert status_of(done)["modelServer"] == target["metadata"]["name"]
    assert status_of(done).get("history") == status_of(waiting).get("history")


def test_another_team_or_environment_shares_no_server() -> None:
    plan = decide(look(pinned(), namespace=make_namespace(environment="production", team="payments")))
    assert plan.apply[0]["spec"]["pool"] == "payments/production"


def test_scaled_to_zero_is_as_wanted_and_serves_nothing() -> None:
    plan = decide(look(pinned(status=active(), replicas=0), serving(pods=0)))
    assert found(plan)["Ready"] == ("True", "ScaledToZero")
    assert found(plan)["Available"] == ("False", "ScaledToZero")


def test_fewer_ready_pods_than_wanted_is_work_under_way() -> None:
    plan = decide(look(pinned(status=active(), replicas=2), serving(pods=1)))
    assert found(plan)["Reconciling"] == ("True", "PodsStarting")
    assert found(plan)["Available"] == ("True", "Serving")
    assert "1 of 2" in message(plan)


def test_pods_that_others_asked_for_are_not_counted() -> None:
    status = status_of(decide(look(pinned(status=active(), replicas=2), serving(pods=5))))
    assert (status["stableReplicas"], status["readyReplicas"]) == (2, 2)


def test_a_bound_server_that_somebody_deleted_is_made_again() -> None:
    plan = decide(look(pinned(status=active())))
    assert len(plan.apply) == 1
    assert found(plan)["Available"] == ("False", "NoReadyPod")
    assert status_of(plan)["activeRevision"] == NAME


def test_a_server_that_is_being_deleted_is_waited_for() -> None:
    leaving = serving(deletionTimestamp="2026-01-10T08:00:00Z")
    plan = decide(look(pinned(status=active()), leaving))
    assert plan.apply == ()
    assert plan.requeue_after == 2


def test_a_deployment_that_is_being_deleted_needs_nothing() -> None:
    gone = make_deployment(deletionTimestamp="2026-01-10T08:00:00Z")
    assert decide(look(gone)) == Plan()
