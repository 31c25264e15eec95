"""Templates: their own validity, the values of their variables, and the text with the values put in."""

import re
from collections.abc import Mapping, Sequence

from retinue.domain.violation import Violation
from retinue.resources.reasons import TEMPLATE_INVALID, VARIABLE_INVALID, VARIABLE_MISSING, VARIABLE_UNKNOWN
from retinue.resources.v1alpha1.assistant import VariableValue
from retinue.resources.v1alpha1.assistanttemplate import AssistantTemplateSpec, Variable, VariableType

_PLACE = re.compile(r"\$(?P<escape>\$\{)|\$\{(?P<inside>[^}]*)(?P<end>\}?)")
_VARIABLE = re.compile(r"^vars\.([A-Za-z_][A-Za-z0-9_]*)$")
_FORMS = {
    VariableType.INTEGER: (re.compile(r"^-?(0|[1-9][0-9]*)$"), "a whole number, for example 42"),
    VariableType.NUMBER: (re.compile(r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$"), "a decimal number, for example 0.5"),
    VariableType.BOOLEAN: (re.compile(r"^(true|false)$"), "true or false"),
}


def validate_template(spec: AssistantTemplateSpec) -> tuple[Violation, ...]:
    """Everything that is wrong with the template itself; empty means that assistants can use it."""
    found: list[Violation] = []
    for index, variable in enumerate(spec.variables):
        path = f"spec.variables[{index}]"
        if variable.required == (variable.default is not None):
            found.append(_invalid(path, f"variable {variable.name} has both or neither of required: true and default"))
        for position, allowed in enumerate(variable.allowed):
            found += _misfit(variable, allowed, f"{path}.allowed[{position}]", TEMPLATE_INVALID, check_allowed=False)
        if variable.default is not None:
            found += _misfit(variable, variable.default, f"{path}.default", TEMPLATE_INVALID)
    names = [variable.name for variable in spec.variables]
    found += [
        _invalid("spec.variables", f"variable {name} is declared more than once")
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    prompt = spec.template.system_prompt
    if prompt is not None:
        found += _text_violations(prompt.inline, set(names))
    return tuple(found)


def variable_values(
    declared: Sequence[Variable], given: Sequence[VariableValue], template: str
) -> tuple[dict[str, str], list[Violation]]:
    """The value of every declared variable, and what is wrong with the given ones (fields of the Assistant)."""
    by_name = {variable.name: variable for variable in declared}
    values = {variable.name: variable.default for variable in declared if variable.default is not None}
    found: list[Violation] = []
    for index, item in enumerate(given):
        variable = by_name.get(item.name)
        if variable is None:
            known = ", ".join(sorted(by_name)) or "none"
            found.append(
                Violation(
                    VARIABLE_UNKNOWN,
                    f"spec.variables[{index}].name",
                    f"template {template} declares no variable {item.name} (declared: {known})",
                    "correct the name, or declare it in the template's spec.variables",
                )
            )
            continue
        misfit = _misfit(variable, item.value, f"spec.variables[{index}].value", VARIABLE_INVALID)
        found += misfit
        if not misfit:
            values[item.name] = item.value
    mentioned = {item.name for item in given}
    found += [
        Violation(
            VARIABLE_MISSING,
            "spec.variables",
            f"template {template} requires variable {variable.name} ({variable.type.value})",
            f"add an entry with name {variable.name} and a value",
        )
        for variable in declared
        if variable.default is None and variable.name not in mentioned
    ]
    return values, found


def render(text: str, values: Mapping[str, str]) -> str:
    """The text with every `${vars.NAME}` replaced and every `$${` turned into `${`.

    Values are put in literally: what looks like a variable inside a value stays as it is. Only for texts that
    `validate_template` has accepted; raises KeyError for a variable without a value.
    """

    def put(place: re.Match[str]) -> str:
        if place["escape"]:
            return "${"
        name = _VARIABLE.fullmatch(place["inside"])
        if name is None:
            raise KeyError(place["inside"])
        return values[name[1]]

    return _PLACE.sub(put, text)


def _text_violations(text: str, declared: set[str]) -> list[Violation]:
    path = "spec.template.systemPrompt.inline"
    found: list[Violation] = []
    for place in _PLACE.finditer(text):
        if place["escape"]:
            continue
        shown = "${" + place["inside"][:64] + place["end"]
        line = text.count("\n", 0, place.start()) + 1
        name = _VARIABLE.fullmatch(place["inside"])
        if name is None or not place["end"]:
            found.append(
                Violation(
                    TEMPLATE_INVALID,
                    path,
                    f"line {line}: ${{ does not begin a variable",
                    "write ${vars.NAME} for a variable, or $${ for a literal ${",
                )
            )
        elif name[1] not in declared:
            found.append(
                Violation(
                    TEMPLATE_INVALID,
                    path,
                    f"line {line}: {shown} uses a variable that spec.variables does not declare",
                    f"declare {name[1]} in spec.variables, or correct the text",
                )
            )
    return found


def _misfit(variable: Variable, value: str, path: str, reason: str, *, check_allowed: bool = True) -> list[Violation]:
    form = _FORMS.get(variable.type)
    if form is not None and not form[0].fullmatch(value):
        return [
            Violation(
                reason,
                path,
                f"variable {variable.name} has type {variable.type.value}, the given text is none",
                f"write {form[1]}",
            )
        ]
    if check_allowed and variable.allowed and value not in variable.allowed:
        return [
            Violation(
                reason,
                path,
                f"variable {variable.name} does not allow this value",
                f"use one of: {', '.join(variable.allowed)}",
            )
        ]
    return []


def _invalid(path: str, cause: str) -> Violation:
    return Violation(TEMPLATE_INVALID, path, cause, "correct the template")
