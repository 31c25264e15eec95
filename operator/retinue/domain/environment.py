"""Which environment and team a namespace is: labels of the platform team, never fields of a tenant's object."""

from dataclasses import dataclass
from typing import Any

from retinue.domain.conditions import Problem
from retinue.domain.names import pool_name
from retinue.resources.meta import DEFAULT_TEAM, LABEL_ENVIRONMENT, LABEL_TEAM
from retinue.resources.reasons import ENVIRONMENT_UNKNOWN


@dataclass(frozen=True, slots=True)
class Environment:
    """The place of a namespace in the chain of environments."""

    name: str
    team: str

    @property
    def pool(self) -> str:
        """Who shares model pods here: one team in one environment."""
        return pool_name(self.team, self.name)


def environment_of(name: str, namespace: dict[str, Any] | None) -> Environment | Problem:
    """The environment of the namespace `name`, or why there is none. `namespace` is the object, None if not seen."""
    labels = (namespace or {}).get("metadata", {}).get("labels") or {}
    environment = labels.get(LABEL_ENVIRONMENT)
    if not environment:
        return Problem(
            ENVIRONMENT_UNKNOWN,
            f"metadata.namespace: namespace {name} has no label {LABEL_ENVIRONMENT}; "
            f"run `kubectl label namespace {name} {LABEL_ENVIRONMENT}=development` (or testing, staging, production)",
        )
    return Environment(environment, labels.get(LABEL_TEAM) or DEFAULT_TEAM)
