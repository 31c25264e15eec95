"""One accepted and one refused input for every CEL rule of the kinds."""

from dataclasses import dataclass
from typing import Any

from builders import make_assistant, make_deployment, make_model_server, make_revision, make_snapshot, make_template
from retinue.resources.crd import IMMUTABLE

Object = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """`before` is stored first when the rule compares with the old object."""

    name: str
    kind: str
    rule: str
    accepted: Object
    refused: Object
    message: str
    before: Object | None = None


NAME_RULE = "self.metadata.name.size() <= 40"
TEXT_RULE = "has(self.inline) != has(self.configMapKeyRef)"
LATEST_RULE = "[has(self.revision), has(self.latest)].filter(x, x).size() == 1"
RUNTIME_RULE = "!has(self.externalServer) || (!has(self.profile) && self.sharing == 'Shared')"
FORMAT_RULE = "has(self.schema) == (self.type == 'JSONSchema')"
LIFECYCLE_RULE = (
    "self == oldSelf || (oldSelf + '>' + self) in "
    "['Draft>Active', 'Active>Inactive', 'Inactive>Active', 'Active>Archived', 'Inactive>Archived']"
)
BY_CONFIG_MAP = {"configMapKeyRef": {"name": "texts", "key": "prompt.txt"}}


def _assistant(**spec: Any) -> Object:
    return make_assistant(spec=spec)


def _deployment(**spec: Any) -> Object:
    return make_deployment(spec=spec)


def _template(variable: Object) -> Object:
    return make_template(spec={"variables": [variable]})


def _renamed(obj: Object, name: str) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "name": name}}


def _template_format(response_format: Object) -> Object:
    return make_template(spec={"template": {"responseFormat": response_format}})


def _revision(name: str = "", **changes: Any) -> Object:
    revision = make_revision()
    revision["spec"].update(changes)
    return _renamed(revision, name) if name else revision


def _server(**changes: Any) -> Object:
    server = make_model_server()
    server["spec"] = {k: v for k, v in {**server["spec"], **changes}.items() if v is not None}
    return server


CASES = (
    Case(
        "assistant-name",
        "Assistant",
        NAME_RULE,
        make_assistant("a" * 40),
        make_assistant("a" * 41),
        "metadata.name must have at most 40 characters",
    ),
    Case(
        "deployment-name",
        "AssistantDeployment",
        NAME_RULE,
        make_deployment("a" * 40),
        make_deployment("a" * 41),
        "metadata.name must have at most 40 characters",
    ),
    Case(
        "variables-need-a-template",
        "Assistant",
        "!has(self.variables) || has(self.templateRef)",
        _assistant(templateRef={"name": "t"}, variables=[{"name": "tone", "value": "formal"}]),
        _assistant(variables=[{"name": "tone", "value": "formal"}]),
        "variables need a template",
    ),
    Case(
        "lifecycle",
        "Assistant",
        LIFECYCLE_RULE,
        _assistant(lifecycle="Inactive"),
        _assistant(lifecycle="Draft"),
        "lifecycle can only go",
        before=_assistant(lifecycle="Active"),
    ),
    Case(
        "system-prompt-both",
        "Assistant",
        TEXT_RULE,
        _assistant(systemPrompt={"inline": "x"}),
        _assistant(systemPrompt={"inline": "x", **BY_CONFIG_MAP}),
        "exactly one of inline and configMapKeyRef",
    ),
    Case(
        "system-prompt-neither",
        "Assistant",
        TEXT_RULE,
        _assistant(systemPrompt=BY_CONFIG_MAP),
        _assistant(systemPrompt={}),
        "exactly one of inline and configMapKeyRef",
    ),
    Case(
        "assistant-format-without-schema",
        "Assistant",
        FORMAT_RULE,
        _assistant(responseFormat={"type": "JSONSchema", "schema": {"type": "object"}}),
        _assistant(responseFormat={"type": "JSONSchema"}),
        "schema must be set when type is JSONSchema",
    ),
    Case(
        "assistant-format-with-schema",
        "Assistant",
        FORMAT_RULE,
        _assistant(responseFormat={"type": "JSON"}),
        _assistant(responseFormat={"type": "JSON", "schema": {"type": "object"}}),
        "schema must be set when type is JSONSchema",
    ),
    Case(
        "template-format",
        "AssistantTemplate",
        FORMAT_RULE,
        _template_format({"type": "Text"}),
        _template_format({"type": "Text", "schema": {}}),
        "schema must be set when type is JSONSchema",
    ),
    Case(
        "variable-both",
        "AssistantTemplate",
        "(has(self.required) && self.required) != has(self.default)",
        _template({"name": "tone", "type": "String", "default": "x"}),
        _template({"name": "tone", "type": "String", "default": "x", "required": True}),
        "exactly one of `required: true` and `default`",
    ),
    Case(
        "variable-neither",
        "AssistantTemplate",
        "(has(self.required) && self.required) != has(self.default)",
        _template({"name": "tone", "type": "String", "required": True}),
        _template({"name": "tone", "type": "String", "required": False}),
        "exactly one of `required: true` and `default`",
    ),
    Case(
        "revision-immutable",
        "AssistantRevision",
        IMMUTABLE,
        _revision(),
        _revision(provenance={"generation": 2}),
        "a revision cannot be changed",
        before=_revision(),
    ),
    Case(
        "revision-name",
        "AssistantRevision",
        "self.metadata.name == self.spec.assistant + '-' + self.spec.digest.substring(7, 17)",
        _revision(),
        _revision("support-bot-0123456789"),
        "metadata.name must be <spec.assistant>-<first 10 hex of spec.digest>",
    ),
    Case(
        "revision-format",
        "AssistantRevision",
        FORMAT_RULE,
        make_revision(snapshot=make_snapshot(responseFormat={"type": "JSONSchema", "schema": {}})),
        make_revision(snapshot=make_snapshot(responseFormat={"type": "Text", "schema": {}})),
        "schema must be set when type is JSONSchema",
    ),
    Case(
        "source-both",
        "AssistantDeployment",
        LATEST_RULE,
        _deployment(source={"latest": {}}),
        _deployment(source={"latest": {}, "revision": "support-bot-182a2b2fc9"}),
        "exactly one of revision and latest",
    ),
    Case(
        "source-neither",
        "AssistantDeployment",
        LATEST_RULE,
        _deployment(source={"revision": "support-bot-182a2b2fc9"}),
        _deployment(source={}),
        "exactly one of revision and latest",
    ),
    Case(
        "external-server-with-profile",
        "AssistantDeployment",
        RUNTIME_RULE,
        _deployment(runtime={"externalServer": "workstation"}),
        _deployment(runtime={"externalServer": "workstation", "profile": "small-cpu"}),
        "externalServer excludes profile",
    ),
    Case(
        "external-server-dedicated",
        "AssistantDeployment",
        RUNTIME_RULE,
        _deployment(runtime={"profile": "small-cpu", "sharing": "Dedicated"}),
        _deployment(runtime={"externalServer": "workstation", "sharing": "Dedicated"}),
        "externalServer excludes profile",
    ),
    Case(
        "deployment-assistant",
        "AssistantDeployment",
        IMMUTABLE,
        _deployment(replicas=2),
        _deployment(assistant="other-bot"),
        "assistant cannot be changed",
        before=_deployment(),
    ),
    Case(
        "server-both",
        "ModelServer",
        "has(self.profile) != has(self.externalServer)",
        _server(),
        _server(externalServer="workstation"),
        "exactly one of profile and externalServer",
    ),
    Case(
        "server-neither",
        "ModelServer",
        "has(self.profile) != has(self.externalServer)",
        _server(profile=None, externalServer="workstation"),
        _server(profile=None),
        "exactly one of profile and externalServer",
    ),
    Case(
        "server-immutable",
        "ModelServer",
        IMMUTABLE,
        _server(),
        _server(pool="default/production"),
        "a ModelServer cannot be changed",
        before=_server(),
    ),
)
