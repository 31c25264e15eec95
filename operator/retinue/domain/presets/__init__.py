"""The four AssistantTemplates that come with retinue.

None of them names a model: which models exist is the platform team's matter, so an assistant names its own. Their
texts are starting points to be copied and bent; an installed preset is never overwritten.
"""

from typing import Any, Final

from retinue.domain.presets import code_assistant, creative_writer, general_assistant, research_assistant
from retinue.resources.meta import LABEL_MANAGED_BY, LABEL_PRESET, MANAGED_BY
from retinue.resources.v1alpha1.assistanttemplate import AssistantTemplate, AssistantTemplateSpec

SPECS: Final[dict[str, AssistantTemplateSpec]] = {
    "general-assistant": general_assistant.SPEC,
    "code-assistant": code_assistant.SPEC,
    "creative-writer": creative_writer.SPEC,
    "research-assistant": research_assistant.SPEC,
}
"""Name of a preset to its spec, in the order in which they are shown."""


def all_presets() -> list[dict[str, Any]]:
    """The presets as objects without a namespace, ready for `kubectl apply` or server-side apply."""
    return [_manifest(name, spec) for name, spec in SPECS.items()]


def _manifest(name: str, spec: AssistantTemplateSpec) -> dict[str, Any]:
    kind = AssistantTemplate.KIND.kind
    labels = {LABEL_MANAGED_BY: MANAGED_BY, LABEL_PRESET: name}
    api_version = AssistantTemplate.model_fields["api_version"].default
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "labels": labels},
        "spec": spec.to_object(),
    }
