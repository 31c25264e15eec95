"""From an Assistant to a snapshot: who wins, what is written out, what is refused."""

from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import MODEL, MODEL_DIGEST, make_assistant, make_template
from retinue.domain.canonical import canonical_json
from retinue.domain.snapshot import MAX_BYTES, build_snapshot, effective_model, needed_config_maps
from retinue.domain.type_defaults import OPTIONS
from retinue.domain.violation import Violation
from retinue.resources.v1alpha1.assistant import Assistant, AssistantSpec, AssistantType
from retinue.resources.v1alpha1.assistanttemplate import AssistantTemplate

pytestmark = pytest.mark.unit

TONE = [{"name": "tone", "value": "formal"}]
BY_TEMPLATE = {"templateRef": {"name": "rag-support"}, "variables": TONE, "systemPrompt": None, "model": None}
BY_MAP = {"configMapKeyRef": {"name": "texts", "key": "prompt.txt"}}


HUGE = {"texts": {"prompt.txt": "€" * 50000}}
TOO_MANY = [*TONE, {"name": "x", "value": "1"}]
REF = "spec.systemPrompt.configMapKeyRef"
SCHEMA = "spec.responseFormat.schema"


def _answering(schema: dict[str, Any]) -> dict[str, Any]:
    return {"responseFormat": {"type": "JSONSchema", "schema": schema}}


def _spec(**spec: Any) -> AssistantSpec:
    return Assistant.from_object(make_assistant(spec=spec)).spec


def _template(**spec: Any) -> AssistantTemplate:
    return AssistantTemplate.from_object(make_template(spec=spec))


def _built(spec: AssistantSpec, template: AssistantTemplate | None = None, maps: Any = None) -> dict[str, Any]:
    snapshot = build_snapshot(spec, template, maps or {}, MODEL_DIGEST)
    assert isinstance(snapshot, dict), [str(v) for v in snapshot]
    return snapshot


def _refused(spec: AssistantSpec, template: AssistantTemplate | None = None, maps: Any = None) -> list[Violation]:
    found = build_snapshot(spec, template, maps or {}, MODEL_DIGEST)
    assert isinstance(found, list)
    return found


def test_a_plain_assistant_becomes_a_small_snapshot() -> None:
    assert _built(_spec()) == {
        "model": {"name": MODEL, "digest": MODEL_DIGEST},
        "options": {"temperature": "0.3"},
        "runner": {"numCtx": 4096},
        "prompts": [{"name": "system", "role": "Primary", "text": "Answer in a formal tone."}],
        "responseFormat": {"type": "Text"},
        "capabilities": ["Chat", "Completion"],
        "clientOverrides": ["maxTokens", "seed", "stop"],
    }


def test_a_template_gives_what_the_assistant_does_not_set() -> None:
    assert _built(_spec(**BY_TEMPLATE), _template()) == {
        "model": {"name": MODEL, "digest": MODEL_DIGEST},
        "options": {"temperature": "0.2", "topP": "0.9", "seed": 7, "maxTokens": 1024},
        "runner": {"numCtx": 8192, "shift": False},
        "prompts": [
            {
                "name": "system",
                "role": "Primary",
                "text": "Answer in a formal tone. Use only the given sources. Prices are in €.",
            }
        ],
        "responseFormat": {"type": "Text"},
        "capabilities": ["Chat", "Completion"],
        "clientOverrides": ["maxTokens", "seed", "stop"],
    }


def test_the_assistant_wins_over_its_template_option_by_option() -> None:
    own = {
        **BY_TEMPLATE,
        "options": {"temperature": "0.90", "stop": ["b", "a"]},
        "runner": {"shift": True},
        "systemPrompt": {"inline": "Own words, with ${vars.tone} left alone."},
        "responseFormat": {"type": "JSON"},
    }
    snapshot = _built(_spec(**own), _template())
    assert snapshot["options"] == {
        "temperature": "0.9",
        "topP": "0.9",
        "seed": 7,
        "maxTokens": 1024,
        "stop": ["b", "a"],
    }
    assert snapshot["runner"] == {"numCtx": 8192, "shift": True}
    assert snapshot["prompts"][0]["text"] == "Own words, with ${vars.tone} left alone."
    assert snapshot["responseFormat"] == {"type": "JSON"}


@pytest.mark.parametrize("kind", list(AssistantType))
def test_every_type_has_default_options_and_any_own_value_wins(kind: AssistantType) -> None:
    assert _built(_spec(type=kind.value))["options"] == OPTIONS[kind].to_object()
    own = _built(_spec(type=kind.value, options={"temperature": "0"}))["options"]
    assert own["temperature"] == "0"


def test_the_name_and_the_digest_of_a_model_come_from_the_same_object() -> None:
    template = _template(template={"model": {"name": "other", "digest": "sha256:" + "1" * 64}})
    chosen = effective_model(_spec(model={"name": "mine"}), template)
    assert chosen is not None
    assert (chosen.name, chosen.digest) == ("mine", None)
    inherited = effective_model(_spec(model=None), template)
    assert inherited is not None
    assert inherited.name == "other"
    assert effective_model(_spec(model=None), None) is None


def test_no_prompt_at_all_leaves_prompts_out() -> None:
    assert "prompts" not in _built(_spec(systemPrompt=None))


def test_a_text_comes_from_its_config_map() -> None:
    spec = _spec(systemPrompt=BY_MAP)
    assert needed_config_maps(spec, None) == {"texts"}
    assert needed_config_maps(_spec(), None) == frozenset()
    snapshot = _built(spec, maps={"texts": {"prompt.txt": "From the map ${vars.x}.\n"}})
    assert snapshot["prompts"][0]["text"] == "From the map ${vars.x}.\n"


def test_tags_lifecycle_type_and_history_limit_change_no_snapshot() -> None:
    same = _spec(tags=["shop"], lifecycle="Inactive", revisionHistoryLimit=5, type="Specialized")
    assert _built(same) == _built(_spec())


@given(st.permutations(["temperature", "topP", "minP", "repeatPenalty", "seed"]), st.integers(0, 4))
def test_order_and_trailing_zeros_change_no_snapshot(order: list[str], zeros: int) -> None:
    long = "0.5" + "0" * zeros
    values = {"temperature": long, "topP": long, "minP": long, "repeatPenalty": long, "seed": 3}
    plain = {"temperature": "0.5", "topP": "0.5", "minP": "0.5", "repeatPenalty": "0.5", "seed": 3}
    assert _built(_spec(options={name: values[name] for name in order})) == _built(_spec(options=plain))


@pytest.mark.parametrize(
    ("spec", "template", "maps", "reason", "field"),
    [
        ({"model": None}, None, {}, "ModelMissing", "spec.model.name"),
        (BY_TEMPLATE, None, {}, "TemplateNotFound", "spec.templateRef.name"),
        ({"systemPrompt": BY_MAP}, None, {}, "ConfigMapNotFound", f"{REF}.name"),
        ({"systemPrompt": BY_MAP}, None, {"texts": {"a": "b"}}, "ConfigMapKeyMissing", f"{REF}.key"),
        ({"systemPrompt": BY_MAP}, None, {"texts": {"prompt.txt": ""}}, "ConfigMapKeyMissing", f"{REF}.key"),
        ({"systemPrompt": BY_MAP}, None, HUGE, "SnapshotTooLarge", "spec"),
        ({"systemPrompt": {}}, None, {}, "SystemPromptInvalid", "spec.systemPrompt"),
        ({"systemPrompt": {"inline": "x", **BY_MAP}}, None, {}, "SystemPromptInvalid", "spec.systemPrompt"),
        ({"variables": TONE}, None, {}, "VariableUnknown", "spec.variables"),
        ({**BY_TEMPLATE, "variables": None}, _template(), {}, "VariableMissing", "spec.variables"),
        ({**BY_TEMPLATE, "variables": TOO_MANY}, _template(), {}, "VariableUnknown", "spec.variables[1].name"),
        (BY_TEMPLATE, _template(variables=[]), {}, "TemplateInvalid", "spec.templateRef.name"),
        ({"responseFormat": {"type": "JSONSchema"}}, None, {}, "ResponseFormatInvalid", SCHEMA),
        ({"responseFormat": {"type": "Text", "schema": {}}}, None, {}, "ResponseFormatInvalid", SCHEMA),
        (_answering({"maximum": 2**53 + 1}), None, {}, "ResponseFormatInvalid", SCHEMA),
        (
            _answering(reduce(lambda inner, _: {"not": inner}, range(500), {})),
            None,
            {},
            "ResponseFormatInvalid",
            SCHEMA,
        ),
        (_answering({"a": {"default": None}}), None, {}, "ResponseFormatInvalid", f"{SCHEMA}.a.default"),
    ],
)
def test_what_cannot_become_a_revision_is_named(
    spec: dict[str, Any], template: AssistantTemplate | None, maps: Any, reason: str, field: str
) -> None:
    found = _refused(_spec(**spec), template, maps)
    assert [(v.reason, v.field) for v in found] == [(reason, field)]
    assert all(v.cause and v.action for v in found)


def test_all_mistakes_are_named_at_once() -> None:
    found = _refused(_spec(model=None, systemPrompt=BY_MAP, responseFormat={"type": "JSONSchema"}))
    assert [v.reason for v in found] == ["ModelMissing", "ConfigMapNotFound", "ResponseFormatInvalid"]


def test_a_broken_template_is_refused_even_where_its_text_is_not_used() -> None:
    broken = _template(template={"systemPrompt": {"inline": "${vars.other}"}})
    own = {**BY_TEMPLATE, "systemPrompt": {"inline": "own"}, "model": {"name": "m"}}
    (violation,) = _refused(_spec(**own), broken)
    assert violation.reason == "TemplateInvalid"
    assert "AssistantTemplate rag-support cannot be used" in violation.cause
    assert "vars.other" in violation.cause


def test_the_largest_snapshot_fits_exactly() -> None:
    def outcome(length: int) -> str:
        maps = {"texts": {"prompt.txt": "x" * length}}
        built = build_snapshot(_spec(systemPrompt=BY_MAP), None, maps, MODEL_DIGEST)
        return "fits" if isinstance(built, dict) else built[0].reason

    probe = {"schemaVersion": 1, "snapshot": _built(_spec(systemPrompt={"inline": "x"}))}
    largest = MAX_BYTES - (len(canonical_json(probe)) - 1)
    assert outcome(largest) == "fits"
    assert outcome(largest + 1) == "SnapshotTooLarge"
