"""Names of models: `[host/][namespace/]model[:tag]`, and which registry of the platform file serves them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from retinue.domain.violation import Violation
from retinue.resources.platform import ModelRegistry
from retinue.resources.reasons import MODEL_NAME_INVALID, MODEL_REGISTRY_NOT_ALLOWED

DEFAULT_NAMESPACE: Final = "library"
DEFAULT_TAG: Final = "latest"
OLLAMA_HOST: Final = "registry.ollama.ai"
"""The host that Ollama itself puts in front of a name without one."""
_PART = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}$")
_HOST = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(:[0-9]{1,5})?$")


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model's name taken apart."""

    host: str | None
    """Host with its port; None: the name has none, the default registry is meant."""
    namespace: str
    model: str
    tag: str

    @property
    def repository(self) -> str:
        """`namespace/model`, as registries address it."""
        return f"{self.namespace}/{self.model}"


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a model is found."""

    registry: ModelRegistry
    repository: str
    tag: str
    pull_name: str
    """What Ollama is asked to pull: with a host wherever Ollama would not find the registry by itself."""


def parse(name: str) -> ModelName | None:
    """Takes a model's name apart as Ollama does, or None if it is no model's name.

    With three or more parts the first is the host. With two parts the first is a namespace: `host/model` does not
    exist in Ollama's names.
    """
    rest, tag = name, DEFAULT_TAG
    if ":" in name.rsplit("/", 1)[-1]:
        rest, tag = name.rsplit(":", 1)
    parts = rest.split("/")
    host: str | None = None
    namespace = DEFAULT_NAMESPACE
    match parts:
        case [model]:
            pass
        case [namespace, model]:
            pass
        case [host, namespace, model]:
            pass
        case _:
            return None
    if not all(_PART.fullmatch(part) for part in (namespace, model, tag)):
        return None
    if host is not None and not _HOST.fullmatch(host):
        return None
    return ModelName(host, namespace, model, tag)


def resolve(name: str, registries: Sequence[ModelRegistry], *, field: str = "spec.model.name") -> Resolved | Violation:
    """Finds the registry of a model: the default one for a name without a host, else the listed one of that host.

    Tenants choose no host that the platform team has not listed.
    """
    parsed = parse(name)
    if parsed is None:
        return Violation(
            MODEL_NAME_INVALID,
            field,
            f"{name!r} is not the name of a model",
            "write [host/][namespace/]model[:tag], for example llama3.2:3b",
        )
    if parsed.host is None:
        registry = next((r for r in registries if r.default), None)
    else:
        registry = next((r for r in registries if r.host.lower() == parsed.host.lower()), None)
    if registry is None:
        listed = ", ".join(r.host for r in registries) or "none"
        return Violation(
            MODEL_REGISTRY_NOT_ALLOWED,
            field,
            f"the registry {parsed.host or '(default)'} is not allowed here (allowed: {listed})",
            "use an allowed registry, or ask the platform team to add it to modelRegistries of the chart",
        )
    pull_name = name
    if parsed.host is None and registry.host.lower() != OLLAMA_HOST:
        pull_name = f"{registry.host}/{parsed.repository}:{parsed.tag}"
    return Resolved(registry, parsed.repository, parsed.tag, pull_name)
