"""Assistant, AssistantRevision and AssistantTemplate: from content to a numbered revision, or to what is wrong."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from builders import MODEL, MODEL_DIGEST, OTHER_DIGEST, make_assistant, make_revision, make_snapshot, make_template
from retinue.domain.assistant_decision import ObservedAssistant, decide_assistant, lookup_needed
from retinue.domain.conditions import Problem
from retinue.domain.plan import Plan
from retinue.domain.revision_decision import ObservedRevision, decide_revision
from retinue.domain.template_decision import decide_template
from retinue.resources.platform import PlatformConfig
from retinue.resources.v1alpha1.assistant import Assistant
from retinue.resources.v1alpha1.assistanttemplate import AssistantTemplate

pytestmark = pytest.mark.unit

Object = dict[str, Any]
NOW = datetime(2026, 1, 10, 8, 0, tzinfo=UTC)
PLATFORM = PlatformConfig.model_validate(
    {
        "agentImage": "retinue:0.1.0",
        "defaultProfile": "small-cpu",
        "profiles": [{"name": "small-cpu", "image": "i"}],
        "modelRegistries": [{"host": "registry.ollama.ai", "default": True}],
    }
)


def look(assistant: Object | None = None, template: Object | None = None, **over: Any) -> ObservedAssistant:
    return ObservedAssistant(
        assistant=Assistant.from_object(assistant or make_assistant()),
        platform=PLATFORM,
        template=AssistantTemplate.from_object(template) if template else None,
        **over,
    )


def unresolved(**metadata: Any) -> Object:
    return make_assistant(spec={"model": {"name": MODEL}}, **metadata)


def status_of(plan: Plan) -> Object:
    assert plan.status is not None
    return plan.status


def found(plan: Plan) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in status_of(plan)["conditions"]}


def message(plan: Plan) -> str:
    return next(str(c["message"]) for c in status_of(plan)["conditions"] if c["type"] == "Ready")


def numbered(revision: Object, ordinal: int | None) -> Object:
    return {**revision, "status": {"observedGeneration": 1, **({"ordinal": ordinal} if ordinal else {})}}


def made() -> Object:
    """The revision of the default assistant."""
    (revision,) = decide_assistant(look(), NOW).apply
    metadata = {"uid": "u", "resourceVersion": "3", "generation": 1, "creationTimestamp": "2026-01-10T08:00:00Z"}
    return {**revision, "metadata": {**revision["metadata"], **metadata}}


def test_an_active_assistant_with_a_digest_makes_its_revision_at_once() -> None:
    plan = decide_assistant(look(), NOW)
    (revision,) = plan.apply
    assert revision["metadata"]["labels"]["retinue.dev/made-by"] == "operator"
    assert revision["spec"]["provenance"] == {"generation": 1}
    status = status_of(plan)
    assert status["latestRevision"] == revision["metadata"]["name"]
    assert status["model"] == {"name": MODEL, "digest": MODEL_DIGEST, "generation": 1}
    assert found(plan)["Ready"] == ("True", "RevisionCreated")
    assert found(plan)["ModelResolved"] == ("True", "DigestGiven")


def test_the_number_of_the_revision_is_shown_once_it_has_one() -> None:
    plan = decide_assistant(look(revisions=(numbered(made(), 7),)), NOW)
    assert plan.apply == ()
    assert status_of(plan)["latestOrdinal"] == 7
    assert message(plan).startswith("r7")


def test_a_second_look_at_the_same_writes_the_same_status() -> None:
    first = status_of(decide_assistant(look(revisions=(numbered(made(), 7),)), NOW))
    again = look(make_assistant(status=first), revisions=(numbered(made(), 7),))
    plan = decide_assistant(again, NOW + timedelta(days=1))
    assert plan.status == first
    assert (plan.apply, plan.delete, plan.events, plan.requeue_after) == ((), (), (), None)


def test_a_model_without_digest_is_looked_up_recorded_and_only_then_used() -> None:
    first = look(unresolved())
    assert lookup_needed(first) == MODEL
    recorded = decide_assistant(replace(first, found=OTHER_DIGEST), NOW)
    assert recorded.apply == ()
    assert status_of(recorded)["model"] == {"name": MODEL, "digest": OTHER_DIGEST, "generation": 1}
    assert found(recorded)["Reconciling"] == ("True", "MakingRevision")
    second = look(unresolved(status=recorded.status))
    assert lookup_needed(second) is None
    plan = decide_assistant(second, NOW)
    assert plan.apply[0]["spec"]["snapshot"]["model"] == {"name": MODEL, "digest": OTHER_DIGEST}
    assert found(plan)["ModelResolved"] == ("True", "DigestResolved")


@pytest.mark.parametrize(
    ("assistant", "asks"),
    [
        (unresolved(), MODEL),
        (make_assistant(), None),
        (unresolved(status={"model": {"name": MODEL, "digest": OTHER_DIGEST, "generation": 1}}), None),
        (unresolved(status={"model": {"name": MODEL, "digest": OTHER_DIGEST, "generation": 1}}, generation=2), MODEL),
        (unresolved(status={"model": {"name": "other", "digest": OTHER_DIGEST, "generation": 1}}), MODEL),
        (make_assistant(spec={"model": {"name": MODEL}, "lifecycle": "Draft"}), None),
        (make_assistant(spec={"model": {"name": MODEL}, "templateRef": {"name": "gone"}}), None),
        (make_assistant(spec={"model": {"name": "evil.example/a/b"}}), None),
        (unresolved(deletionTimestamp="2026-01-10T08:00:00Z"), None),
    ],
)
def test_the_registry_is_asked_once_per_generation_and_only_for_what_can_become_a_revision(
    assistant: Object, asks: str | None
) -> None:
    assert lookup_needed(look(assistant)) == asks


def test_a_registry_that_is_away_makes_no_revision_and_is_asked_again() -> None:
    problem = Problem("ModelNotResolved", "spec.model.name: registry does not answer; set spec.model.digest")
    plan = decide_assistant(look(unresolved(), found=problem), NOW)
    assert plan.apply == ()
    assert found(plan)["Stalled"] == ("True", "ModelNotResolved")
    assert found(plan)["ModelResolved"] == ("False", "ModelNotResolved")
    assert plan.requeue_after == 60


def test_what_was_latest_stays_latest_while_new_content_is_wrong() -> None:
    before = {"observedGeneration": 1, "latestRevision": "support-bot-0123456789", "latestOrdinal": 6}
    plan = decide_assistant(look(make_assistant(spec={"model": None}, status=before)), NOW)
    assert found(plan)["Stalled"] == ("True", "ModelMissing")
    assert "spec.model.name" in message(plan)
    assert status_of(plan)["latestRevision"] == "support-bot-0123456789"
    assert status_of(plan)["latestOrdinal"] == 6


@pytest.mark.parametrize(
    ("spec", "template", "reason", "field"),
    [
        ({"model": None}, None, "ModelMissing", "spec.model.name"),
        ({"model": {"name": "evil.example/a/b"}}, None, "ModelRegistryNotAllowed", "spec.model.name"),
        ({"templateRef": {"name": "rag-support"}}, make_template(), "VariableMissing", "spec.variables"),
        (
            {"templateRef": {"name": "rag-support"}, "variables": [{"name": "tome", "value": "x"}]},
            make_template(),
            "VariableUnknown",
            "spec.variables[0].name",
        ),
        (
            {"templateRef": {"name": "t"}},
            make_template("t", spec={"variables": [{"name": "a", "type": "String", "required": True, "default": "b"}]}),
            "TemplateInvalid",
            "spec.templateRef.name",
        ),
        ({"systemPrompt": {"inline": "é" * 98304}}, None, "SnapshotTooLarge", "spec"),
    ],
)
def test_content_that_cannot_become_a_revision_names_its_field(
    spec: Object, template: Object | None, reason: str, field: str
) -> None:
    plan = decide_assistant(look(make_assistant(spec=spec), template), NOW)
    assert plan.apply == ()
    assert found(plan)["Stalled"] == ("True", reason)
    assert message(plan).startswith(field)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"templateRef": {"name": "gone"}}, "TemplateNotFound"),
        ({"systemPrompt": {"configMapKeyRef": {"name": "gone", "key": "prompt"}}}, "ConfigMapNotFound"),
    ],
)
def test_what_is_missing_may_still_come_for_a_while(spec: Object, reason: str) -> None:
    plan = decide_assistant(look(make_assistant(spec=spec)), NOW)
    assert found(plan)["Reconciling"] == ("True", reason)
    late = decide_assistant(look(make_assistant(spec=spec, status=plan.status)), NOW + timedelta(seconds=31))
    assert found(late)["Stalled"] == ("True", reason)


def test_a_prompt_in_a_config_map_is_read_again_from_time_to_time() -> None:
    spec = {"systemPrompt": {"configMapKeyRef": {"name": "texts", "key": "prompt"}}}
    old = decide_assistant(look(make_assistant(spec=spec), config_maps={"texts": {"prompt": "Be formal."}}), NOW)
    new = decide_assistant(look(make_assistant(spec=spec), config_maps={"texts": {"prompt": "Be brief."}}), NOW)
    assert old.requeue_after == 60
    assert old.apply[0]["metadata"]["name"] != new.apply[0]["metadata"]["name"]


def test_a_template_and_its_variables_end_in_the_revision() -> None:
    spec = {
        "model": {"name": MODEL, "digest": MODEL_DIGEST},
        "systemPrompt": None,
        "templateRef": {"name": "rag-support"},
        "variables": [{"name": "tone", "value": "formal"}],
    }
    plan = decide_assistant(look(make_assistant(spec=spec), make_template()), NOW)
    snapshot = plan.apply[0]["spec"]["snapshot"]
    assert "Answer in a formal tone." in snapshot["prompts"][0]["text"]
    assert plan.apply[0]["spec"]["provenance"] == {"generation": 1, "template": "rag-support"}


@pytest.mark.parametrize("lifecycle", ["Draft", "Inactive", "Archived"])
def test_only_active_assistants_make_revisions(lifecycle: str) -> None:
    before = {"observedGeneration": 1, "latestRevision": "support-bot-0123456789", "latestOrdinal": 6}
    plan = decide_assistant(look(make_assistant(spec={"lifecycle": lifecycle}, status=before)), NOW)
    assert plan.apply == ()
    assert found(plan)["Ready"] == ("True", lifecycle)
    assert status_of(plan)["latestRevision"] == "support-bot-0123456789"


def test_another_content_under_the_same_name_is_never_overwritten() -> None:
    other = made()
    other["spec"] = {**other["spec"], "digest": OTHER_DIGEST}
    plan = decide_assistant(look(revisions=(other,)), NOW)
    assert plan.apply == ()
    assert found(plan)["Stalled"] == ("True", "DigestConflict")


def test_a_revision_that_was_altered_is_not_taken_for_the_content() -> None:
    bent = made()
    bent["spec"] = {**bent["spec"], "snapshot": make_snapshot(options={"temperature": "2"})}
    plan = decide_assistant(look(revisions=(bent,)), NOW)
    assert found(plan)["Stalled"] == ("True", "DigestInvalid")


def old_revisions(count: int) -> tuple[Object, ...]:
    made_ones = []
    for number in range(1, count + 1):
        text = {"name": "system", "role": "Primary", "text": f"Version {number}."}
        made_ones.append(numbered(make_revision(snapshot=make_snapshot(prompts=[text])), number))
    return tuple(made_ones)


def test_old_revisions_are_collected_beyond_the_limit() -> None:
    old = old_revisions(5)
    plan = decide_assistant(look(make_assistant(spec={"revisionHistoryLimit": 2}), revisions=old), NOW)
    assert [d.name for d in plan.delete] == [r["metadata"]["name"] for r in reversed(old[:3])]
    assert all(d.uid and d.resource_version for d in plan.delete)


def test_what_a_deployment_names_is_never_collected() -> None:
    old = old_revisions(5)
    named = frozenset({old[0]["metadata"]["name"]})
    plan = decide_assistant(
        look(make_assistant(spec={"revisionHistoryLimit": 2}), revisions=old, referenced=named), NOW
    )
    assert old[0]["metadata"]["name"] not in [d.name for d in plan.delete]
    assert len(plan.delete) == 2


def test_what_the_operator_did_not_make_is_never_collected() -> None:
    old = tuple({**r, "metadata": {**r["metadata"], "labels": {}}} for r in old_revisions(5))
    assert decide_assistant(look(make_assistant(spec={"revisionHistoryLimit": 2}), revisions=old), NOW).delete == ()


def test_deleting_an_assistant_deletes_no_revision() -> None:
    gone = make_assistant(deletionTimestamp="2026-01-10T08:00:00Z", spec={"revisionHistoryLimit": 2})
    assert decide_assistant(look(gone, revisions=old_revisions(5)), NOW) == Plan()


def test_a_right_revision_gets_the_next_number() -> None:
    first, second = old_revisions(2)
    plan = decide_revision(ObservedRevision(numbered(second, None), (first,), floor=0), NOW)
    assert status_of(plan)["ordinal"] == 2
    assert found(plan)["Ready"] == ("True", "DigestValid")


def test_the_number_of_a_deleted_revision_is_not_given_again() -> None:
    (only,) = old_revisions(1)
    plan = decide_revision(ObservedRevision(numbered(only, None), (), floor=9), NOW)
    assert status_of(plan)["ordinal"] == 10


def test_a_number_never_changes() -> None:
    plan = decide_revision(ObservedRevision(numbered(made(), 3), old_revisions(8), floor=20), NOW)
    assert status_of(plan)["ordinal"] == 3


def test_revisions_that_are_seen_together_are_numbered_in_the_order_of_their_making() -> None:
    older, newer = (numbered(r, None) for r in old_revisions(2))
    newer = {**newer, "metadata": {**newer["metadata"], "creationTimestamp": "2026-01-10T09:00:00Z"}}
    waits = decide_revision(ObservedRevision(newer, (older, newer)), NOW)
    assert "ordinal" not in status_of(waits)
    assert found(waits)["Reconciling"] == ("True", "WaitingForNumber")
    assert waits.requeue_after
    first = decide_revision(ObservedRevision(older, (older, newer)), NOW)
    assert status_of(first)["ordinal"] == 1


@pytest.mark.parametrize(
    ("bend", "reason"),
    [
        ({"digest": OTHER_DIGEST}, "DigestInvalid"),
        ({"snapshot": make_snapshot(options={"temperature": "2"})}, "DigestInvalid"),
        ({"schemaVersion": 2}, "SchemaTooNew"),
    ],
)
def test_a_revision_that_must_not_be_served_says_so_and_has_no_number(bend: Object, reason: str) -> None:
    revision = make_revision()
    revision["spec"] = {**revision["spec"], **bend}
    plan = decide_revision(ObservedRevision(revision), NOW)
    assert found(plan)["Stalled"] == ("True", reason)
    assert "ordinal" not in status_of(plan)


def test_a_template_is_valid_or_says_what_is_wrong() -> None:
    good = decide_template(AssistantTemplate.from_object(make_template()), NOW)
    assert found(good) == {"Ready": ("True", "TemplateValid")}
    wrong = make_template(spec={"variables": []})
    bad = decide_template(AssistantTemplate.from_object(wrong), NOW)
    assert found(bad)["Stalled"] == ("True", "TemplateInvalid")
    assert "spec.template.systemPrompt.inline" in message(bad)
