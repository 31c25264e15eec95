"""From an Assistant, its template and its ConfigMaps to the snapshot of a revision: merge, resolve, normalise.

The order in which fields stand, defaults that are written out or left out, and the style of the YAML change nothing;
every change that could alter an answer changes the result.
"""

from collections.abc import Mapping
from typing import Any, Final

from retinue.domain.canonical import NotCanonical, canonical_json, null_path, shortest_decimal
from retinue.domain.template import render, validate_template, variable_values
from retinue.domain.type_defaults import CAPABILITIES, CLIENT_OVERRIDES, NUM_CTX, OPTIONS, RESPONSE_FORMAT
from retinue.domain.violation import Violation, summary
from retinue.resources.reasons import (
    CONFIG_MAP_KEY_MISSING,
    CONFIG_MAP_NOT_FOUND,
    MODEL_MISSING,
    RESPONSE_FORMAT_INVALID,
    SNAPSHOT_TOO_LARGE,
    SYSTEM_PROMPT_INVALID,
    TEMPLATE_INVALID,
    TEMPLATE_NOT_FOUND,
    VARIABLE_UNKNOWN,
)
from retinue.resources.v1alpha1.assistant import AssistantSpec
from retinue.resources.v1alpha1.assistanttemplate import AssistantTemplate, TemplateContent
from retinue.resources.v1alpha1.content import (
    Model,
    ModelChoice,
    Options,
    ResponseFormat,
    ResponseFormatType,
    Runner,
    RunnerChoice,
)

SCHEMA_VERSION: Final = 1
"""Form of the snapshot that this release writes."""
MAX_BYTES: Final = 128 * 1024
"""Most bytes of the canonical JSON of {schemaVersion, snapshot}."""


_DECIMALS = ("temperature", "top_p", "min_p", "repeat_penalty")
_EMPTY = TemplateContent()

ConfigMaps = Mapping[str, Mapping[str, str]]
"""Name of a ConfigMap to its `data`; one that does not exist is absent."""


def effective_model(spec: AssistantSpec, template: AssistantTemplate | None) -> ModelChoice | None:
    """The model that is asked for: the assistant's, else the template's.

    Name and digest are taken together: a digest of the template never goes with a name of the assistant.
    """
    if spec.model is not None:
        return spec.model
    return template.spec.template.model if template is not None else None


def needed_config_maps(spec: AssistantSpec, template: AssistantTemplate | None = None) -> frozenset[str]:
    """Names of the ConfigMaps whose texts go into the snapshot. Templates read none."""
    del template
    ref = spec.system_prompt.config_map_key_ref if spec.system_prompt is not None else None
    return frozenset() if ref is None else frozenset({ref.name})


def build_snapshot(
    spec: AssistantSpec,
    template: AssistantTemplate | None,
    config_maps: ConfigMaps,
    model_digest: str,
) -> dict[str, Any] | list[Violation]:
    """The snapshot as it is hashed and stored, or everything that is wrong with its sources.

    `template` is the one that `spec.templateRef` names (None: it does not exist, or none is named); `model_digest` is
    what the effective model resolved to.
    """
    found: list[Violation] = []
    if spec.template_ref is not None and template is None:
        found.append(
            Violation(
                TEMPLATE_NOT_FOUND,
                "spec.templateRef.name",
                f"there is no AssistantTemplate {spec.template_ref.name} in this namespace",
                "create it, or correct the name",
            )
        )
        return found
    content = template.spec.template if template is not None else _EMPTY
    choice = effective_model(spec, template)
    if choice is None:
        found.append(
            Violation(
                MODEL_MISSING,
                "spec.model.name",
                "neither the assistant nor a template names a model",
                "set spec.model.name, for example llama3.2:3b",
            )
        )
    text, wrong = _system_prompt(spec, template, config_maps)
    found += wrong
    response_format = spec.response_format or content.response_format or RESPONSE_FORMAT
    where = "spec.responseFormat" if spec.response_format is not None else "spec.template.responseFormat"
    found += _response_format_violations(response_format, where)
    if found or choice is None:
        return found

    snapshot: dict[str, Any] = {
        "model": Model(name=choice.name, digest=model_digest).to_object(),
        "options": merged_options(spec.options, content.options, OPTIONS[spec.type]).to_object(),
        "runner": merged_runner(spec.runner, content.runner).to_object(),
        "responseFormat": response_format.to_object(),
        "capabilities": sorted(c.value for c in CAPABILITIES),
        "clientOverrides": list(CLIENT_OVERRIDES),
    }
    if text is not None:
        snapshot["prompts"] = [{"name": "system", "role": "Primary", "text": text}]
    return _bounded(snapshot)


def merged_options(own: Options | None, template: Options | None, defaults: Options) -> Options:
    """Option by option: the assistant's value, else the template's, else the type's; decimals in shortest form."""
    merged: dict[str, Any] = {}
    for name in Options.model_fields:
        for source in (own, template, defaults):
            value = getattr(source, name) if source is not None else None
            if value is not None:
                merged[name] = shortest_decimal(value) if name in _DECIMALS else value
                break
    return Options(**merged)


def merged_runner(own: RunnerChoice | None, template: RunnerChoice | None) -> Runner:
    """Field by field: the assistant's value, else the template's, else numCtx 4096 and no shift."""
    num_ctx: int | None = None
    shift: bool | None = None
    for source in (own, template):
        if source is not None:
            num_ctx = source.num_ctx if num_ctx is None else num_ctx
            shift = source.shift if shift is None else shift
    return Runner(num_ctx=NUM_CTX if num_ctx is None else num_ctx, shift=shift)


def _system_prompt(
    spec: AssistantSpec, template: AssistantTemplate | None, config_maps: ConfigMaps
) -> tuple[str | None, list[Violation]]:
    """The final text, or None for none. The template and the variables are checked even where their text is unused."""
    found: list[Violation] = []
    values: dict[str, str] = {}
    if template is not None:
        broken = validate_template(template.spec)
        if broken:
            return None, [
                Violation(
                    TEMPLATE_INVALID,
                    "spec.templateRef.name",
                    f"AssistantTemplate {template.name} cannot be used ({summary(broken)})",
                    "correct the template",
                )
            ]
        values, found = variable_values(template.spec.variables, spec.variables, template.name)
    elif spec.variables:
        found.append(
            Violation(VARIABLE_UNKNOWN, "spec.variables", "no template is named", "set templateRef, or remove them")
        )
    if found:
        return None, found
    if spec.system_prompt is not None:
        return _own_text(spec, config_maps)
    if template is not None and template.spec.template.system_prompt is not None:
        return render(template.spec.template.system_prompt.inline, values) or None, []
    return None, []


def _own_text(spec: AssistantSpec, config_maps: ConfigMaps) -> tuple[str | None, list[Violation]]:
    source = spec.system_prompt
    if source is None or (source.inline is None) == (source.config_map_key_ref is None):
        return None, [
            Violation(
                SYSTEM_PROMPT_INVALID,
                "spec.systemPrompt",
                "both or neither of inline and configMapKeyRef are set",
                "set exactly one of them",
            )
        ]
    ref = source.config_map_key_ref
    if ref is None:
        return source.inline or None, []
    data = config_maps.get(ref.name)
    path = "spec.systemPrompt.configMapKeyRef"
    if data is None:
        return None, [
            Violation(
                CONFIG_MAP_NOT_FOUND,
                f"{path}.name",
                f"there is no ConfigMap {ref.name} in this namespace",
                "create it, or correct the name",
            )
        ]
    if not data.get(ref.key):
        keys = ", ".join(sorted(data)) or "none"
        return None, [
            Violation(
                CONFIG_MAP_KEY_MISSING,
                f"{path}.key",
                f"ConfigMap {ref.name} has no text under {ref.key} (keys: {keys})",
                "add the key to its data, or correct it here",
            )
        ]
    return data[ref.key], []


def _response_format_violations(response_format: ResponseFormat, path: str) -> list[Violation]:
    schema = response_format.json_schema
    wants_schema = response_format.type is ResponseFormatType.JSON_SCHEMA
    if wants_schema != (schema is not None):
        return [
            Violation(
                RESPONSE_FORMAT_INVALID,
                f"{path}.schema",
                "schema stands with type JSONSchema, and only then",
                "set type: JSONSchema and a schema, or remove the schema",
            )
        ]
    if schema is None:
        return []
    try:
        canonical_json(schema)
    except NotCanonical as error:
        return [
            Violation(
                RESPONSE_FORMAT_INVALID,
                f"{path}.schema",
                f"it holds a value that cannot be hashed exactly ({error})",
                "use integers between -(2^53) and 2^53, finite numbers, valid Unicode and fewer levels",
            )
        ]
    # Not before: it goes down by recursion, and only now is it known that there is an end near.
    null = null_path(schema, f"{path}.schema")
    if null is not None:
        return [Violation(RESPONSE_FORMAT_INVALID, null, "null is not allowed in a schema", "remove it")]
    return []


def _bounded(snapshot: dict[str, Any]) -> dict[str, Any] | list[Violation]:
    try:
        size = len(canonical_json({"schemaVersion": SCHEMA_VERSION, "snapshot": snapshot}))
    except NotCanonical as error:
        return [
            Violation(
                SYSTEM_PROMPT_INVALID, "spec.systemPrompt", f"it is not valid text ({error})", "use valid Unicode"
            )
        ]
    if size > MAX_BYTES:
        return [
            Violation(
                SNAPSHOT_TOO_LARGE,
                "spec",
                f"the resolved content has {size} bytes, the limit is {MAX_BYTES}",
                "shorten the prompt or the schemas",
            )
        ]
    return snapshot
