"""The models of the kinds: reading live objects, writing plain ones."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from builders import (
    condition,
    make_assistant,
    make_deployment,
    make_model_server,
    make_revision,
    make_template,
)
from retinue.resources.base import Resource
from retinue.resources.conditions import Condition, ConditionStatus
from retinue.resources.meta import KINDS, READY, STALLED
from retinue.resources.schema import RESOURCES
from retinue.resources.v1alpha1.assistant import Assistant, AssistantType, Lifecycle
from retinue.resources.v1alpha1.assistantdeployment import AssistantDeployment, Candidate, ChangeClass, Sharing
from retinue.resources.v1alpha1.assistantrevision import AssistantRevision
from retinue.resources.v1alpha1.assistanttemplate import AssistantTemplate
from retinue.resources.v1alpha1.content import ResponseFormat
from retinue.resources.v1alpha1.modelserver import ModelServer

pytestmark = pytest.mark.unit

EXAMPLES: tuple[tuple[type[Resource], dict[str, Any]], ...] = (
    (Assistant, make_assistant()),
    (AssistantTemplate, make_template()),
    (AssistantRevision, make_revision()),
    (AssistantDeployment, make_deployment()),
    (ModelServer, make_model_server()),
)


@pytest.mark.parametrize(("resource", "obj"), EXAMPLES, ids=lambda value: getattr(value, "__name__", ""))
def test_an_object_that_is_read_and_written_means_the_same(resource: type[Resource], obj: dict[str, Any]) -> None:
    read = resource.from_object(obj)
    assert resource.from_object(read.to_object()) == read
    assert read.to_object()["kind"] == obj["kind"]
    assert read.to_object()["metadata"] == obj["metadata"]


def test_every_kind_of_the_group_has_a_model() -> None:
    assert {r.KIND.kind: r.KIND.plural for r in RESOURCES} == KINDS
    short = [name for r in RESOURCES for name in r.KIND.short_names]
    assert short == ["ast", "asttpl", "astrev", "astdep", "ms"]


def test_unknown_fields_of_a_live_object_are_ignored() -> None:
    obj = make_assistant(spec={"fromTheFuture": 1}, managedFields=[{"manager": "kubectl"}])
    assert "fromTheFuture" not in Assistant.from_object(obj).to_object()["spec"]


def test_an_assistant_is_read_with_its_defaults() -> None:
    assistant = Assistant.from_object({"metadata": {"name": "a"}, "spec": {}})
    assert assistant.spec.type is AssistantType.GENERAL
    assert assistant.spec.lifecycle is Lifecycle.ACTIVE
    assert assistant.spec.revision_history_limit == 20
    assert assistant.spec.model is None
    assert assistant.status.observed_generation == -1
    assert assistant.status.latest_revision is None


def test_a_deployment_is_read_with_its_defaults() -> None:
    spec = {"assistant": "a", "source": {"latest": {}}}
    deployment = AssistantDeployment.from_object({"metadata": {"name": "a"}, "spec": spec}).spec
    assert (deployment.replicas, deployment.suspend) == (1, False)
    assert deployment.runtime.sharing is Sharing.SHARED
    assert deployment.deadlines.model_dump() == {"pull_seconds": 3600, "start_seconds": 600, "rollout_seconds": 7200}
    assert deployment.source.latest is not None
    assert deployment.to_object()["source"] == {"latest": {}}


def test_a_field_whose_name_is_a_word_of_python_keeps_its_name_outside() -> None:
    since = datetime(2026, 1, 12, 9, 10, tzinfo=UTC)
    candidate = Candidate(revision="r", model_server="m", change_class=ChangeClass.MODEL_CHANGE, since=since)
    plain = {"revision": "r", "modelServer": "m", "class": "ModelChange", "since": "2026-01-12T09:10:00Z"}
    assert candidate.to_object() == plain
    assert Candidate.model_validate(plain) == candidate


def test_times_are_written_in_utc_with_whole_seconds() -> None:
    moment = datetime(2026, 1, 12, 10, 10, 0, 999999, tzinfo=timezone(timedelta(hours=1)))
    written = Condition(
        type="Ready", status=ConditionStatus.TRUE, reason="Fine", last_transition_time=moment
    ).to_object()
    assert written["lastTransitionTime"] == "2026-01-12T09:10:00Z"


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="lastTransitionTime"):
        Condition.model_validate(condition("Ready", lastTransitionTime="2026-01-12T09:10:00"))


def test_a_free_form_schema_stays_exactly_as_it_is() -> None:
    schema = {"type": "object", "required": [], "default": None, "properties": {}}
    written = ResponseFormat.model_validate({"type": "JSONSchema", "schema": schema}).to_object()
    assert written == {"type": "JSONSchema", "schema": schema}


def test_objects_cannot_be_changed_in_memory() -> None:
    assistant = Assistant.from_object(make_assistant())
    with pytest.raises(ValidationError, match="frozen"):
        assistant.spec.lifecycle = Lifecycle.DRAFT


def test_a_status_answers_what_a_condition_says() -> None:
    status = Assistant.from_object(
        make_assistant(status={"observedGeneration": 1, "conditions": [condition("Ready", "Unknown", "Working")]})
    ).status
    ready = status.condition(READY)
    assert ready is not None
    assert ready.reason == "Working"
    assert not status.is_true(READY)
    assert status.condition(STALLED) is None
    assert not status.is_true(STALLED)


@pytest.mark.parametrize(
    ("options", "fits"),
    [
        ({"temperature": "0"}, True),
        ({"temperature": "2"}, True),
        ({"temperature": "2.000000"}, True),
        ({"temperature": "2.000001"}, False),
        ({"temperature": "-0.1"}, False),
        ({"temperature": ".5"}, False),
        ({"temperature": "0,5"}, False),
        ({"temperature": "1e-1"}, False),
        ({"temperature": 0.5}, False),
        ({"topP": "1.0"}, True),
        ({"topP": "1.1"}, False),
        ({"minP": "0.05"}, True),
        ({"repeatPenalty": "1.1"}, True),
        ({"seed": 2**31}, False),
        ({"seed": 2**31 - 1}, True),
        ({"maxTokens": 0}, False),
        ({"topK": 0}, True),
        ({"stop": [""]}, False),
        ({"stop": ["\n"]}, True),
    ],
)
def test_sampling_options_have_bounds(options: dict[str, Any], fits: bool) -> None:
    obj = make_assistant(spec={"options": options})
    if fits:
        assert Assistant.from_object(obj).spec.options is not None
    else:
        with pytest.raises(ValidationError):
            Assistant.from_object(obj)
