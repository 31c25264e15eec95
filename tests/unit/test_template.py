"""Templates: validity, values of variables, rendering."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import make_template
from retinue.domain.template import render, validate_template, variable_values
from retinue.resources.reasons import TEMPLATE_INVALID, VARIABLE_INVALID, VARIABLE_MISSING, VARIABLE_UNKNOWN
from retinue.resources.v1alpha1.assistant import VariableValue
from retinue.resources.v1alpha1.assistanttemplate import AssistantTemplate, AssistantTemplateSpec, Variable

pytestmark = pytest.mark.unit


def _spec(variables: list[dict[str, Any]], text: str = "Hello.") -> AssistantTemplateSpec:
    obj = make_template(spec={"variables": variables, "template": {"systemPrompt": {"inline": text}}})
    return AssistantTemplate.from_object(obj).spec


def _variable(kind: str = "String", **fields: Any) -> Variable:
    required = {} if "default" in fields else {"required": True}
    return Variable.model_validate({"name": "x", "type": kind, **required, **fields})


def _given(value: str, name: str = "x") -> list[VariableValue]:
    return [VariableValue(name=name, value=value)]


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("", ""),
        ("no variable", "no variable"),
        ("${vars.x}", "X"),
        ("a ${vars.x}, ${vars.x}${vars.y}!", "a X, X$Y!"),
        ("$${vars.x}", "${vars.x}"),
        ("$$${vars.x}", "$${vars.x}"),
        ("cost: $5, $x, {x}, $ {x}", "cost: $5, $x, {x}, $ {x}"),
        ("$${", "${"),
    ],
)
def test_variables_are_replaced_and_escapes_are_kept(text: str, rendered: str) -> None:
    assert render(text, {"x": "X", "y": "$Y"}) == rendered


def test_a_value_that_looks_like_a_variable_is_not_replaced_again() -> None:
    assert render("${vars.x}", {"x": "${vars.y}", "y": "secret"}) == "${vars.y}"


@given(st.text())
def test_any_text_can_be_written_with_escapes(text: str) -> None:
    assert render(text.replace("${", "$${"), {}) == text or "$${" in text


@pytest.mark.parametrize("kind_text", [("String", "any text"), ("Integer", "-12"), ("Number", "0.50")])
def test_a_value_of_the_right_type_is_put_in_as_written(kind_text: tuple[str, str]) -> None:
    kind, text = kind_text
    assert variable_values([_variable(kind)], _given(text), "t") == ({"x": text}, [])


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("Integer", "1.5"),
        ("Integer", "007"),
        ("Integer", ""),
        ("Integer", "1\n"),
        ("Number", "1e3"),
        ("Number", "NaN"),
        ("Boolean", "yes"),
        ("Boolean", "True"),
    ],
)
def test_a_value_of_another_type_is_refused_at_its_field(kind: str, text: str) -> None:
    values, found = variable_values([_variable(kind)], _given(text), "t")
    assert values == {}
    assert [(v.reason, v.field) for v in found] == [(VARIABLE_INVALID, "spec.variables[0].value")]
    assert kind in str(found[0])


def test_a_value_that_is_not_allowed_is_refused_with_what_is() -> None:
    _, found = variable_values([_variable(allowed=["a", "b"])], _given("c"), "t")
    assert "use one of: a, b" in str(found[0])
    assert variable_values([_variable(allowed=["a", "b"])], _given("b"), "t") == ({"x": "b"}, [])


def test_a_default_is_used_and_a_given_value_wins() -> None:
    assert variable_values([_variable(default="d")], [], "t") == ({"x": "d"}, [])
    assert variable_values([_variable(default="d")], _given("g"), "t") == ({"x": "g"}, [])
    assert variable_values([_variable(default="d")], _given(""), "t") == ({"x": ""}, [])


def test_a_missing_and_an_unknown_variable_are_both_named() -> None:
    _, found = variable_values([_variable()], _given("v", name="y"), "polite")
    assert [(v.reason, v.field) for v in found] == [
        (VARIABLE_UNKNOWN, "spec.variables[0].name"),
        (VARIABLE_MISSING, "spec.variables"),
    ]
    assert "template polite declares no variable y (declared: x)" in str(found[0])
    assert "requires variable x (String)" in str(found[1])


def test_a_good_template_has_no_violation() -> None:
    variables = [
        {"name": "n", "type": "Integer", "default": "5", "allowed": ["5", "6"]},
        {"name": "s", "type": "String", "required": True},
    ]
    assert validate_template(_spec(variables, "${vars.n} ${vars.s} $${vars.unknown}")) == ()
    assert validate_template(AssistantTemplate.from_object(make_template(spec={"template": {}})).spec) == ()


@pytest.mark.parametrize(
    ("variables", "text", "field", "cause"),
    [
        ([{"name": "x", "type": "String"}], "a", "spec.variables[0]", "both or neither"),
        ([{"name": "x", "type": "String", "required": True, "default": "d"}], "a", "spec.variables[0]", "both or"),
        ([{"name": "x", "type": "Integer", "default": "d"}], "a", "spec.variables[0].default", "type Integer"),
        (
            [{"name": "x", "type": "Boolean", "default": "true", "allowed": ["true", "no"]}],
            "a",
            "spec.variables[0].allowed[1]",
            "type Boolean",
        ),
        (
            [{"name": "x", "type": "String", "default": "c", "allowed": ["a", "b"]}],
            "a",
            "spec.variables[0].default",
            "does not allow",
        ),
        (
            [{"name": "x", "type": "String", "default": "c"}, {"name": "x", "type": "String", "default": "d"}],
            "a",
            "spec.variables",
            "more than once",
        ),
        ([], "one\ntwo ${vars.y}", "spec.template.systemPrompt.inline", "line 2: ${vars.y} uses a variable"),
        ([], "${x}", "spec.template.systemPrompt.inline", "does not begin a variable"),
        ([], "${vars.}", "spec.template.systemPrompt.inline", "does not begin a variable"),
        ([], "${vars.x", "spec.template.systemPrompt.inline", "does not begin a variable"),
    ],
)
def test_what_is_wrong_with_a_template_is_named(
    variables: list[dict[str, Any]], text: str, field: str, cause: str
) -> None:
    found = validate_template(_spec(variables, text))
    assert [(v.reason, v.field) for v in found] == [(TEMPLATE_INVALID, field)]
    assert cause in str(found[0])
