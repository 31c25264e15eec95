"""What a pure `decide` hands to `act`: everything that shall be written, and when to look again."""

from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete exactly this incarnation: UID and resourceVersion are preconditions."""

    kind: str
    name: str
    namespace: str
    uid: str
    resource_version: str
    grace_period_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One Kubernetes Event about the reconciled object. Only on a transition, never per pass."""

    type: str
    """Normal or Warning."""
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The outcome of one decision. An empty plan means: as wanted, nothing to write."""

    apply: tuple[Object, ...] = ()
    """Whole objects for server-side apply, in order."""
    delete: tuple[Delete, ...] = ()
    status: Object | None = None
    """The whole wanted status of the reconciled object; written last and only if it differs."""
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None
    """Seconds until this key must be looked at again even if nothing happens."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What health rows and metrics need to know of this decision; never written to the API server."""
