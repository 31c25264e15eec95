"""What a kind declares beside its fields: CEL rules, printer columns, the scale subresource, its names.

Kept as plain values, so that a kind reads as one page and `schema.py` is the only place that knows the CRD format.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Rule:
    """One CEL rule that the API server checks (`x-kubernetes-validations`)."""

    rule: str
    """CEL expression over `self` (and `oldSelf`: then it is checked on updates only)."""
    message: str
    """What the user reads when it is refused: field, cause and what to do."""
    field_path: str | None = None
    """JSON path of the field that is at fault, relative to where the rule stands, for example `.sharing`."""

    def to_schema(self) -> dict[str, str]:
        """The entry of `x-kubernetes-validations`."""
        entry = {"rule": self.rule, "message": self.message}
        if self.field_path is not None:
            entry["fieldPath"] = self.field_path
        return entry


@dataclass(frozen=True, slots=True)
class Column:
    """One printer column of `kubectl get`."""

    name: str
    path: str
    type: str = "string"
    """string, integer or date."""
    wide: bool = False
    """True: only with `-o wide`."""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Scale:
    """The `/scale` subresource: what `kubectl scale` and autoscalers read and write."""

    spec_path: str
    status_path: str
    selector_path: str


@dataclass(frozen=True, slots=True)
class Kind:
    """Names and views of one custom resource."""

    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...]
    columns: tuple[Column, ...]
    scale: Scale | None = None
    rules: tuple[Rule, ...] = field(default=())
    """Rules at the root of the object; of `metadata` only the name can be read there."""


AGE = Column("Age", ".metadata.creationTimestamp", "date", description="Time since the object was made.")
IMMUTABLE = "self == oldSelf"


def rules(*items: Rule) -> dict[str, Any]:
    """CEL rules of one field, for `Field(json_schema_extra=rules(...))`."""
    return {"x-kubernetes-validations": [r.to_schema() for r in items]}


def list_map(*keys: str) -> dict[str, Any]:
    """A list whose items are merged by key in server-side apply, for `json_schema_extra`."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def list_set() -> dict[str, Any]:
    """A list of scalars without duplicates, for `json_schema_extra`."""
    return {"x-kubernetes-list-type": "set"}
