"""AssistantDeployment: what is not served: paused by somebody, missing, or not allowed."""

import pytest

from builders import (
    condition,
    make_assistant,
    make_deployment,
    make_namespace,
    make_revision,
)
from deployment_cases import NAME, Object, active, authored, decide, found, look, message, pinned, serving, status_of
from retinue.domain.deployment_target import demand_of
from retinue.resources.v1alpha1.assistant import Assistant
from retinue.resources.v1alpha1.assistantdeployment import AssistantDeployment

pytestmark = pytest.mark.unit


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
