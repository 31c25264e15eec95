"""What Ollama answers, as frozen records; fields that we do not use are dropped when a reply is read."""

from dataclasses import dataclass, field
from typing import Any

from retinue.ollama.names import with_algorithm


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One entry of `/api/tags`: a model on disk."""

    name: str
    digest: str
    """`sha256:` of the manifest; the same digest that the registry answered."""
    size: int
    """Bytes on disk."""

    @classmethod
    def read(cls, raw: dict[str, Any]) -> "StoredModel":
        """From one element of the reply's `models`."""
        return cls(
            name=str(raw.get("model") or raw.get("name") or ""),
            digest=with_algorithm(str(raw.get("digest") or "")),
            size=int(raw.get("size") or 0),
        )


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One entry of `/api/ps`: a model in memory."""

    name: str
    digest: str
    size: int
    """Bytes in memory of any kind."""
    vram_bytes: int
    """Bytes of them on GPUs."""
    context_length: int
    """Tokens; 0 where the version of Ollama does not say."""

    @classmethod
    def read(cls, raw: dict[str, Any]) -> "LoadedModel":
        """From one element of the reply's `models`."""
        return cls(
            name=str(raw.get("model") or raw.get("name") or ""),
            digest=with_algorithm(str(raw.get("digest") or "")),
            size=int(raw.get("size") or 0),
            vram_bytes=int(raw.get("size_vram") or 0),
            context_length=int(raw.get("context_length") or 0),
        )

    @property
    def processor(self) -> str:
        """CPU, GPU or Mixed: where the weights are."""
        if self.vram_bytes <= 0:
            return "CPU"
        return "GPU" if self.vram_bytes >= self.size else "Mixed"


@dataclass(frozen=True, slots=True)
class OneToken:
    """The outcome of a one-token generation."""

    latency_ms: float
    """Milliseconds from sending the request to its reply."""
    tokens_per_second: float | None
    """None where the model generates no tokens (embedding models)."""
    load_ms: float
    """Milliseconds of it that Ollama spent on loading or waiting for the model."""


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a pull is. Totals grow while Ollama goes from layer to layer."""

    status: str
    completed_bytes: int
    total_bytes: int

    @property
    def downloading(self) -> bool:
        """False while Ollama hashes or writes: then no bytes arrive for long, and that is no stall."""
        return not self.status.startswith(("verifying", "writing", "removing", "success"))


@dataclass(slots=True)
class PullTally:
    """Sums the per-layer lines of a pull stream; the greatest `completed` of a layer counts."""

    layers: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, line: dict[str, Any]) -> PullProgress:
        """Take one line of the stream and say how far the whole is."""
        digest = line.get("digest")
        if digest:
            completed, total = self.layers.get(digest, (0, 0))
            self.layers[digest] = (
                max(completed, int(line.get("completed") or 0)),
                max(total, int(line.get("total") or 0)),
            )
        return PullProgress(
            status=str(line.get("status") or ""),
            completed_bytes=sum(completed for completed, _ in self.layers.values()),
            total_bytes=sum(total for _, total in self.layers.values()),
        )
