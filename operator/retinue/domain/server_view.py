"""What an AssistantDeployment needs to know of a ModelServer, read from its status in one place."""

from dataclasses import dataclass
from datetime import datetime

from retinue.domain.conditions import Finding
from retinue.resources.meta import MODEL_MATCHED, MODEL_PRESENT, READY, RECONCILING, STALLED
from retinue.resources.reasons import MODEL_SERVER_MISSING
from retinue.resources.v1alpha1.modelserver import ModelServer


@dataclass(frozen=True, slots=True)
class ServerView:
    """One ModelServer as its users see it."""

    name: str
    exists: bool
    """False: not made yet, or being deleted."""
    replicas: int
    ready_replicas: int
    present_since: datetime | None
    """Since when the model is on the disk of its pods; None: it is not yet."""
    stalled: bool
    reason: str
    """Why it is not Ready; empty if it is, or if nothing is known."""
    message: str
    matched: Finding | None
    """Its ModelMatched condition, to be copied."""

    def serves(self, wanted: int) -> bool:
        """Whether enough pods are Ready for a deployment that wants this many."""
        return self.exists and self.ready_replicas >= wanted

    def why_not(self) -> str:
        """One clause for a message: what the server says of itself."""
        if not self.exists:
            return f"ModelServer {self.name} does not exist yet"
        if not self.message:
            return f"ModelServer {self.name} has not been looked at yet"
        return f"ModelServer {self.name}: {self.message}"


def view_of(name: str, server: ModelServer | None) -> ServerView:
    """The view of a ModelServer that may not exist."""
    if server is None or server.deleting:
        return ServerView(name, False, 0, 0, None, False, MODEL_SERVER_MISSING, "", None)
    status = server.status
    present = status.condition(MODEL_PRESENT)
    matched = status.condition(MODEL_MATCHED)
    cause = status.condition(STALLED) or status.condition(RECONCILING)
    said = cause or status.condition(READY)
    return ServerView(
        name=name,
        exists=True,
        replicas=status.replicas or 0,
        ready_replicas=status.ready_replicas or 0,
        present_since=present.last_transition_time if present is not None and present.status.value == "True" else None,
        stalled=status.is_true(STALLED),
        reason=cause.reason if cause is not None else "",
        message=said.message if said is not None else "",
        matched=Finding(MODEL_MATCHED, matched.status, matched.reason, matched.message) if matched else None,
    )
