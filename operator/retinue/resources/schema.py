"""Turns the pydantic models into CustomResourceDefinitions (structural schemas). Pure; `hack/gen` writes the files.

pydantic's JSON Schema is refused by the API server (references, null branches, titles), so it is rewritten here, and
what this project demands of every field is enforced: a description, a bound, no default under `snapshot`.
"""

from typing import Any, Final

from retinue.resources.base import INT32_MAX, Resource
from retinue.resources.crd import Kind
from retinue.resources.meta import ANNOTATION_SCHEMA, GROUP, SCHEMA_REVISION, VERSION
from retinue.resources.v1alpha1.assistant import Assistant
from retinue.resources.v1alpha1.assistantdeployment import AssistantDeployment
from retinue.resources.v1alpha1.assistantrevision import AssistantRevision
from retinue.resources.v1alpha1.assistanttemplate import AssistantTemplate
from retinue.resources.v1alpha1.modelserver import ModelServer

Schema = dict[str, Any]

RESOURCES: Final[tuple[type[Resource], ...]] = (
    Assistant,
    AssistantTemplate,
    AssistantRevision,
    AssistantDeployment,
    ModelServer,
)
CATEGORY: Final = "retinue"
PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
UNSEEN: Final = {"observedGeneration": -1}
"""Status of an object that the operator has not seen: readers then know that conditions say nothing yet."""
_ORDER: Final = (
    "type",
    "description",
    "format",
    "enum",
    "default",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    PRESERVE,
    "x-kubernetes-validations",
    "required",
    "items",
    "properties",
)
_DROPPED: Final = ("title", "additionalProperties")
_API_VERSION_TEXT: Final = f"Version of the schema of this object: {GROUP}/{VERSION}."


class SchemaError(ValueError):
    """A model that cannot become a CRD; the message names the field and what to do."""


def crd_of(resource: type[Resource]) -> dict[str, Any]:
    """The whole CustomResourceDefinition of one kind. Raises SchemaError."""
    kind = resource.KIND
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": _columns(kind),
        "schema": {"openAPIV3Schema": structural(resource)},
        "subresources": {"status": {}},
    }
    if kind.scale is not None:
        version["subresources"]["scale"] = {
            "specReplicasPath": kind.scale.spec_path,
            "statusReplicasPath": kind.scale.status_path,
            "labelSelectorPath": kind.scale.selector_path,
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}", "annotations": {ANNOTATION_SCHEMA: SCHEMA_REVISION}},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": list(kind.short_names),
                "categories": [CATEGORY],
            },
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def structural(resource: type[Resource]) -> Schema:
    """The structural schema of one kind. Raises SchemaError."""
    raw = resource.model_json_schema(by_alias=True, mode="validation")
    definitions = raw.get("$defs", {})
    spec = _rewrite(raw["properties"]["spec"], definitions, "spec")
    status = _rewrite(raw["properties"]["status"], definitions, "status")
    _without_defaults(status)
    status["default"] = UNSEEN
    _check(spec, "spec")
    _check(status, "status")
    root: Schema = {
        "type": "object",
        "description": _text(resource.__doc__),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": _API_VERSION_TEXT},
            "kind": {"type": "string", "description": f"Kind of this object: {resource.KIND.kind}."},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }
    if resource.KIND.rules:
        root["x-kubernetes-validations"] = [rule.to_schema() for rule in resource.KIND.rules]
    return _ordered(root)


def _columns(kind: Kind) -> list[dict[str, Any]]:
    columns = []
    for column in kind.columns:
        entry: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
        if column.description:
            entry["description"] = column.description
        if column.wide:
            entry["priority"] = 1
        columns.append(entry)
    return columns


def _rewrite(node: Schema, definitions: dict[str, Schema], path: str) -> Schema:
    node = _inlined(node, definitions, path)
    for key in ("exclusiveMinimum", "exclusiveMaximum", "const", "prefixItems", "discriminator", "oneOf", "allOf"):
        if key in node:
            raise SchemaError(
                f"{path}: {key} is not possible in a CRD; use ge/le, an enum or optional objects with a rule"
            )
    properties = node.get("properties")
    if properties is not None:
        node["properties"] = {
            name: _rewrite(child, definitions, f"{path}.{name}") for name, child in properties.items()
        }
    if "items" in node:
        node["items"] = _rewrite(node["items"], definitions, f"{path}[]")
        if node.get("default") == []:
            del node["default"]
        node.setdefault("x-kubernetes-list-type", "atomic")
    if node.get("type") == "integer":
        node["format"] = "int32" if node.get("maximum", INT32_MAX + 1) <= INT32_MAX else "int64"
    if path.endswith(".snapshot") or ".snapshot." in path:
        _under_snapshot(node, path)
    if "[]" in path and "default" in node:
        # A default inside list items would make server-side apply fight over items.
        del node["default"]
    return {key: value for key, value in node.items() if key not in _DROPPED}


def _inlined(node: Schema, definitions: dict[str, Schema], path: str) -> Schema:
    """Without references and without the null branch of an optional field; what stands beside a reference wins."""
    node = dict(node)
    branches = node.pop("anyOf", None)
    if branches is not None:
        real = [branch for branch in branches if branch.get("type") != "null"]
        if len(real) != 1:
            raise SchemaError(f"{path}: a union is not possible in a CRD; use optional objects and a rule")
        node = {**real[0], **node}
        if node.get("default", ...) is None:
            del node["default"]
    reference = node.pop("$ref", None)
    if reference is not None:
        target = _inlined(definitions[reference.removeprefix("#/$defs/")], definitions, path)
        rules = [*target.get("x-kubernetes-validations", []), *node.get("x-kubernetes-validations", [])]
        node = {**target, **node}
        if rules:
            node["x-kubernetes-validations"] = rules
    if node.get("default", ...) is None:
        del node["default"]
    return node


def _under_snapshot(node: Schema, path: str) -> None:
    """An older CRD must never change what is hashed: nothing is defaulted, nothing is pruned."""
    if "default" in node:
        raise SchemaError(f"{path}: no default may stand under snapshot, it would change digests; make it required")
    if node.get("type") == "object":
        node[PRESERVE] = True


def _without_defaults(node: Schema) -> None:
    node.pop("default", None)
    for child in node.get("properties", {}).values():
        _without_defaults(child)
    if "items" in node:
        _without_defaults(node["items"])


def _check(node: Schema, path: str, *, item: bool = False) -> None:
    """What every field must have. Items of a list are described by their list."""
    if "description" not in node and not item:
        raise SchemaError(f"{path}: it needs a description with unit and default")
    kind = node.get("type")
    if kind is None:
        raise SchemaError(f"{path}: it has no type; use one plain type per field")
    if kind == "string" and not {"maxLength", "enum", "format"} & node.keys():
        raise SchemaError(f"{path}: it needs max_length, so that its size and the cost of rules are bounded")
    if kind == "integer" and not {"minimum", "maximum"} <= node.keys():
        raise SchemaError(f"{path}: it needs ge and le")
    if kind == "array" and "maxItems" not in node:
        raise SchemaError(f"{path}: it needs max_length (the most items)")
    if kind == "object" and not {"properties", PRESERVE} & node.keys():
        raise SchemaError(f"{path}: an object without known fields must keep unknown ones")
    for name, child in node.get("properties", {}).items():
        _check(child, f"{path}.{name}")
    if "items" in node:
        _check(node["items"], f"{path}[]", item=True)


def _text(docstring: str | None) -> str:
    return " ".join((docstring or "").split())


def _ordered(node: Schema) -> Schema:
    unknown = set(node) - set(_ORDER)
    if unknown:
        raise SchemaError(f"these keys are not known to be possible in a CRD: {sorted(unknown)}")
    result: Schema = {}
    for key in _ORDER:
        if key not in node:
            continue
        value = node[key]
        if key == "properties":
            value = {name: _ordered(child) for name, child in value.items()}
        elif key == "items":
            value = _ordered(value)
        elif key == "description":
            value = _described(_text(value), node.get("default"))
        elif key == "required":
            value = sorted(value)
        elif key == "x-kubernetes-validations":
            value = [{name: rule[name] for name in ("rule", "message", "fieldPath") if name in rule} for rule in value]
        result[key] = value
    return result


def _described(text: str, default: Any) -> str:
    """`kubectl explain` does not print defaults, so the text says them."""
    if default is None or isinstance(default, dict):
        return text
    shown = str(default).lower() if isinstance(default, bool) else str(default)
    return f"{text} Default: {shown}."
