"""Conditions and the status that every kind has (the contract that kubectl wait, Argo CD and Flux read)."""

from enum import StrEnum

from pydantic import Field

from retinue.resources.base import INT53_MAX, ApiModel, Time
from retinue.resources.crd import list_map


class ConditionStatus(StrEnum):
    """Answer of a condition; Unknown on Ready means: working on it."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(ApiModel):
    """One observation about an object, in the form of metav1.Condition."""

    type: str = Field(
        description="What the condition is about, for example Ready.", max_length=316, pattern=r"^[A-Za-z][A-Za-z0-9]*$"
    )
    status: ConditionStatus = Field(
        description="True, False or Unknown. Reconciling and Stalled are present only while True."
    )
    reason: str = Field(
        description="The cause as one CamelCase word for programs.",
        max_length=1024,
        pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
    )
    message: str = Field(
        default="", description="The cause for people: field, cause and what to do. May be empty.", max_length=32768
    )
    observed_generation: int = Field(
        default=0,
        description="metadata.generation that the condition was made from (a count).",
        ge=0,
        le=INT53_MAX,
    )
    last_transition_time: Time = Field(description="When status last changed (RFC 3339, UTC).")


class BaseStatus(ApiModel):
    """What every status holds; -1 means that the operator has not seen the object yet."""

    observed_generation: int = Field(
        default=-1,
        description="metadata.generation that the operator has last seen (a count); -1: not seen yet.",
        ge=-1,
        le=INT53_MAX,
    )
    conditions: tuple[Condition, ...] = Field(
        default=(),
        description="Observations by type. Ready: True, Unknown while working, False only together with Stalled.",
        max_length=16,
        json_schema_extra=list_map("type"),
    )

    def condition(self, condition_type: str) -> Condition | None:
        """The condition of that type, or None if it is absent."""
        return next((c for c in self.conditions if c.type == condition_type), None)

    def is_true(self, condition_type: str) -> bool:
        """True only if the condition is present and True."""
        found = self.condition(condition_type)
        return found is not None and found.status is ConditionStatus.TRUE
