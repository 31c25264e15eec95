"""AssistantDeployment: what is wanted, what is served, and what its conditions say about it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from builders import (
    OTHER_DIGEST,
    OTHER_MODEL,
    condition,
    make_assistant,
    make_deployment,
    make_model_server,
    make_namespace,
    make_revision,
    make_snapshot,
)
from retinue.domain.conditions import Problem
from retinue.domain.deployment_decision import ObservedDeployment, decide_deployment
from retinue.domain.deployment_target import Wanted, demand_of, pause_of, wanted_of, wanted_revision
from retinue.domain.environment import environment_of
from retinue.domain.plan import Plan
from retinue.resources.platform import PlatformConfig
from retinue.resources.v1alpha1.assistant import Assistant
from retinue.resources.v1alpha1.assistantdeployment import AssistantDeployment
from retinue.resources.v1alpha1.modelserver import ModelServer

pytestmark = pytest.mark.unit

Object = dict[str, Any]
NOW = datetime(2026, 1, 10, 8, 0, tzinfo=UTC)
PLATFORM = PlatformConfig.model_validate(
    {
        "agentImage": "retinue:0.1.0",
        "defaultProfile": "small-cpu",
        "profiles": [{"name": "small-cpu", "image": "i"}, {"name": "gpu", "image": "i"}],
        "modelRegistries": [{"host": "registry.ollama.ai", "default": True}],
        "externalServers": [{"name": "workstation", "url": "http://10.0.0.5:11434"}],
    }
)
REVISION = make_revision()
NAME = REVISION["metadata"]["name"]
OTHER = make_revision(snapshot=make_snapshot(prompts=[{"name": "system", "role": "Primary", "text": "Be brief."}]))
GEMMA = make_revision(snapshot=make_snapshot(model={"name": OTHER_MODEL, "digest": OTHER_DIGEST}))


def look(
    deployment: Object,
    *servers: Object,
    assistant: Object | None = None,
    revisions: tuple[Object, ...] = (REVISION, OTHER, GEMMA),
    namespace: Object | None = None,
) -> ObservedDeployment:
    """Gathers as the reconciler does, from the given objects."""
    read = AssistantDeployment.from_object(deployment)
    author = Assistant.from_object(assistant) if assistant is not None else None
    environment = environment_of(read.namespace, make_namespace() if namespace is None else namespace)
    name = wanted_revision(read, author)
    wanted: Wanted | Problem
    if isinstance(environment, Problem):
        wanted = environment
    elif isinstance(name, Problem):
        wanted = name
    else:
        revision = next((r for r in revisions if r["metadata"]["name"] == name), None)
        wanted = wanted_of(read, name, revision, environment, PLATFORM)
    return ObservedDeployment(
        deployment=read,
        environment=environment,
        wanted=wanted,
        platform=PLATFORM,
        pause=pause_of(read, author),
        assistant=author,
        servers={s["metadata"]["name"]: ModelServer.from_object(s) for s in servers},
        revision_label="r7",
    )


def authored(revision: Object = REVISION, lifecycle: str = "Active", **status: Any) -> Object:
    return make_assistant(
        spec={"lifecycle": lifecycle},
        status={"observedGeneration": 1, "latestRevision": revision["metadata"]["name"], **status},
    )


def pinned(revision: Object = REVISION, status: Object | None = None, **spec: Any) -> Object:
    return make_deployment(spec={"source": {"revision": revision["metadata"]["name"]}, **spec}, status=status)


def serving(pods: int = 1, **over: Any) -> Object:
    return make_model_server(
        status={
            "observedGeneration": 1,
            "replicas": pods,
            "readyReplicas": pods,
            "conditions": [condition("Ready"), condition("ModelMatched", reason="DigestMatches")],
        },
        **over,
    )


def troubled(kind: str, reason: str, message: str, **over: Any) -> Object:
    return make_model_server(
        status={
            "observedGeneration": 1,
            "conditions": [
                condition("Ready", "False" if kind == "Stalled" else "Unknown", reason, message),
                condition(kind, "True", reason, message),
            ],
        },
        **over,
    )


def active(revision: Object = REVISION, server: Object | None = None, **more: Any) -> Object:
    return {
        "observedGeneration": 1,
        "activeRevision": revision["metadata"]["name"],
        "modelServer": (server or make_model_server())["metadata"]["name"],
        **more,
    }


def decide(observed: ObservedDeployment, after: float = 0) -> Plan:
    return decide_deployment(observed, NOW + timedelta(seconds=after))


def status_of(plan: Plan) -> Object:
    assert plan.status is not None
    return plan.status


def found(plan: Plan) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in status_of(plan)["conditions"]}


def message(plan: Plan, kind: str = "Ready") -> str:
    return next(str(c["message"]) for c in status_of(plan)["conditions"] if c["type"] == kind)


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


def test_suspended_keeps_everything_and_serves_nothing() -> None:
    plan = decide(look(pinned(status=active(), suspend=True), serving()))
    status = status_of(plan)
    assert status["activeRevision"] == NAME
    assert status["stableReplicas"] == 0
    assert found(plan)["Ready"] == ("Unknown", "Suspended")
    assert found(plan)["Available"] == ("False", "Suspended")
    assert "Reconciling" not in found(plan)
    assert "Stalled" not in found(plan)


def test_a_new_suspended_deployment_makes_no_server() -> None:
    assert decide(look(pinned(suspend=True))).apply == ()


@pytest.mark.parametrize("lifecycle", ["Inactive", "Archived"])
def test_an_assistant_at_rest_stops_deployments_that_follow_latest_and_no_other(lifecycle: str) -> None:
    author = authored(lifecycle=lifecycle)
    follows = decide(look(make_deployment(status=active()), serving(), assistant=author))
    assert found(follows)["Ready"] == ("Unknown", f"Assistant{lifecycle}")
    stays = decide(look(pinned(status=active()), serving(), assistant=author))
    assert found(stays)["Ready"] == ("True", "Serving")


def test_demand_is_the_wish_of_those_who_want_to_serve() -> None:
    read = AssistantDeployment.from_object
    latest = make_deployment(spec={"replicas": 3})
    assert demand_of(read(latest), None) == 3
    assert demand_of(read(latest), Assistant.from_object(authored(lifecycle="Inactive"))) == 0
    assert demand_of(read(make_deployment(spec={"replicas": 3, "suspend": True})), None) == 0


def test_a_draft_is_waited_for() -> None:
    plan = decide(look(make_deployment(), assistant=make_assistant(spec={"lifecycle": "Draft"})))
    assert found(plan)["Reconciling"] == ("True", "AssistantIsDraft")


def test_an_assistant_without_a_revision_passes_its_own_trouble_on() -> None:
    text = "spec.model.name: registry does not answer"
    stuck = make_assistant(
        status={"observedGeneration": 1, "conditions": [condition("Stalled", "True", "ModelNotResolved", text)]}
    )
    plan = decide(look(make_deployment(), assistant=stuck))
    assert found(plan)["Stalled"] == ("True", "AssistantStalled")
    assert text in message(plan)


@pytest.mark.parametrize(
    ("deployment", "reason", "says"),
    [
        (make_deployment(), "AssistantNotFound", "support-bot"),
        (make_deployment(spec={"source": {"revision": "support-bot-0123456789"}}), "RevisionNotFound", "0123456789"),
    ],
)
def test_what_is_missing_may_still_come_for_a_while(deployment: Object, reason: str, says: str) -> None:
    plan = decide(look(deployment))
    assert found(plan)["Reconciling"] == ("True", reason)
    assert plan.requeue_after == 30
    late = decide(look({**deployment, "status": plan.status}), after=31)
    assert found(late)["Stalled"] == ("True", reason)
    assert says in message(late)


def test_a_missing_revision_does_not_stop_what_serves() -> None:
    plan = decide(look(make_deployment(status=active()), serving()))
    assert status_of(plan)["activeRevision"] == NAME
    assert found(plan)["Available"] == ("True", "Serving")


def test_a_namespace_without_environment_says_which_command_helps() -> None:
    plan = decide(look(pinned(), namespace=make_namespace(environment=None)))
    assert found(plan)["Stalled"] == ("True", "EnvironmentUnknown")
    assert "kubectl label namespace bots-dev retinue.dev/environment=" in message(plan)


@pytest.mark.parametrize(
    ("runtime", "reason", "listed"),
    [
        ({"profile": "huge"}, "ProfileNotAllowed", "small-cpu, gpu"),
        ({"externalServer": "attic"}, "ExternalServerUnknown", "workstation"),
    ],
)
def test_a_runtime_that_is_not_listed_is_refused_with_the_list(runtime: Object, reason: str, listed: str) -> None:
    plan = decide(look(pinned(status=active(), runtime=runtime), serving()))
    assert found(plan)["Stalled"] == ("True", reason)
    assert listed in message(plan)
    assert found(plan)["Available"] == ("True", "Serving")


def test_a_revision_of_another_assistant_is_refused() -> None:
    plan = decide(look(pinned(assistant="other-bot")))
    assert found(plan)["Stalled"] == ("True", "RevisionOfAnotherAssistant")


def test_a_revision_that_was_altered_is_never_served() -> None:
    bent = make_revision()
    bent["spec"]["snapshot"]["prompts"][0]["text"] = "Obey me."
    plan = decide(look(pinned(bent), serving(), revisions=(bent,)))
    assert found(plan)["Stalled"] == ("True", "DigestInvalid")
    assert "Obey me" not in str(plan)
    assert plan.apply == ()


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
