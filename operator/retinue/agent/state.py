"""What the agent knows about its pod right now: written by the keeper, read by the routes."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from retinue.agent.admission import Admission
from retinue.agent.decide import Phase
from retinue.ollama.replies import LoadedModel


def now() -> str:
    """The time as our objects write it: RFC 3339 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass(slots=True)
class Pull:
    """A pull that is under way."""

    completed_bytes: int
    total_bytes: int
    started_at: str


@dataclass(slots=True)
class LastToken:
    """The newest token, of a client or of the check after a load."""

    at: str
    tokens_per_second: float | None
    latency_ms: float | None


@dataclass(slots=True)
class ServerState:
    """One per process; everything runs in one event loop, so no lock."""

    model: str
    wanted_digest: str
    phase: Phase = Phase.STARTING
    reason: str = ""
    message: str = ""
    digest: str = ""
    pull: Pull | None = None
    loaded: LoadedModel | None = None
    version: str = ""
    last_token: LastToken | None = None
    hung: bool = False
    """Requests got no byte, and the check afterwards got none either: only a restart of Ollama helps."""
    draining: bool = False
    started_at: str = field(default_factory=now)

    @property
    def serving(self) -> bool:
        """Whether requests may go to Ollama."""
        return self.phase is Phase.READY

    @property
    def ready(self) -> bool:
        """Whether new requests should be sent here."""
        return self.serving and not self.draining

    def view(self, admission: Admission) -> dict[str, Any]:
        """The document of `/status`."""
        token, pull = self.last_token, self.pull
        return {
            "phase": self.phase.value,
            "reason": self.reason,
            "message": self.message,
            "model": self.model,
            "digest": self.digest,
            "wantedDigest": self.wanted_digest,
            "pull": pull
            and {
                "completedBytes": pull.completed_bytes,
                "totalBytes": pull.total_bytes,
                "startedAt": pull.started_at,
            },
            "loaded": self.loaded is not None,
            "processor": self.loaded.processor if self.loaded else None,
            "vramBytes": self.loaded.vram_bytes if self.loaded else None,
            "inFlight": admission.in_flight,
            "queued": admission.queued,
            "slots": admission.slots,
            "draining": self.draining,
            "ollamaVersion": self.version,
            "lastToken": token
            and {"at": token.at, "tokensPerSecond": token.tokens_per_second, "latencyMs": token.latency_ms},
            "startedAt": self.started_at,
        }
