"""The presets: each is a valid template, resolves with its defaults, and reads well when rendered."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from builders import MODEL_DIGEST, make_assistant
from retinue.domain.presets import all_presets
from retinue.domain.revision import build_revision_object, build_snapshot, verify_revision
from retinue.domain.template import validate_template
from retinue.resources.v1alpha1.assistant import Assistant, AssistantSpec
from retinue.resources.v1alpha1.assistanttemplate import AssistantTemplate, Variable, VariableType

pytestmark = pytest.mark.unit

PRESETS = all_presets()
NAMES = ("general-assistant", "code-assistant", "creative-writer", "research-assistant")
SAMPLES = {VariableType.STRING: "sample text", VariableType.INTEGER: "12", VariableType.NUMBER: "1.5"}


def _spec(preset: dict[str, Any], variables: list[dict[str, str]] | None = None) -> AssistantSpec:
    spec = {
        "type": "General",
        "systemPrompt": None,
        "templateRef": {"name": preset["metadata"]["name"]},
        "variables": variables,
    }
    return Assistant.from_object(make_assistant(spec=spec)).spec


def _snapshot(preset: dict[str, Any], variables: list[dict[str, str]] | None = None) -> dict[str, Any]:
    built = build_snapshot(_spec(preset, variables), AssistantTemplate.from_object(preset), {}, MODEL_DIGEST)
    assert isinstance(built, dict), [str(v) for v in built]
    return built


def _other_value(variable: Variable) -> str:
    if variable.allowed:
        return next(value for value in variable.allowed if value != variable.default)
    if variable.type is VariableType.BOOLEAN:
        return "false" if variable.default == "true" else "true"
    return SAMPLES[variable.type]


def test_there_are_the_four_presets() -> None:
    assert tuple(p["metadata"]["name"] for p in PRESETS) == NAMES
    assert len({p["spec"]["category"] for p in PRESETS}) == len(NAMES)
    assert all(p["metadata"]["labels"]["retinue.dev/preset"] == p["metadata"]["name"] for p in PRESETS)


@pytest.mark.parametrize("preset", PRESETS, ids=NAMES)
def test_a_preset_needs_only_a_model_to_become_a_revision(preset: dict[str, Any]) -> None:
    assert validate_template(AssistantTemplate.from_object(preset).spec) == ()
    assert "model" not in preset["spec"]["template"]
    snapshot = _snapshot(preset)
    assert verify_revision(build_revision_object("bot", "ns", snapshot)).ok
    assert {"temperature", "topP", "maxTokens"} <= snapshot["options"].keys()
    assert snapshot["options"]["maxTokens"] < snapshot["runner"]["numCtx"]


@pytest.mark.parametrize("preset", PRESETS, ids=NAMES)
def test_the_text_of_a_preset_is_whole_and_fits_its_window(preset: dict[str, Any]) -> None:
    snapshot = _snapshot(preset)
    text = snapshot["prompts"][0]["text"]
    assert "${" not in text
    assert "vars." not in text
    assert text.startswith("You are ")
    assert all(line == line.rstrip() for line in text.splitlines())
    # English has about four characters per token; question, history and answer need the rest of the window.
    assert len(text) / 4 + snapshot["options"]["maxTokens"] < snapshot["runner"]["numCtx"] * 0.8


@pytest.mark.parametrize("preset", PRESETS, ids=NAMES)
def test_every_variable_of_a_preset_has_a_default_a_text_and_an_effect(preset: dict[str, Any]) -> None:
    plain = _snapshot(preset)
    for variable in AssistantTemplate.from_object(preset).spec.variables:
        assert variable.default is not None
        assert variable.description
        other = _other_value(variable)
        assert other != variable.default
        assert _snapshot(preset, [{"name": variable.name, "value": other}]) != plain, variable.name


def test_presets_differ_in_options_where_their_purpose_does() -> None:
    options = {p["metadata"]["name"]: p["spec"]["template"]["options"] for p in PRESETS}
    hottest = max(options, key=lambda name: float(options[name]["temperature"]))
    assert hottest == "creative-writer"
    assert options["code-assistant"]["temperature"] == options["research-assistant"]["temperature"] == "0.2"


@pytest.mark.parametrize("preset", PRESETS, ids=NAMES)
def test_the_example_file_of_a_preset_is_the_preset(preset: dict[str, Any]) -> None:
    folder = Path(__file__).resolve().parents[2] / "examples" / "presets"
    assert yaml.safe_load((folder / f"{preset['metadata']['name']}.yaml").read_text()) == preset
