"""Rows of history as they travel from their maker to Postgres; field names are the column names."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class PodHealth:
    """One look at one model pod. Key: (sample_id, at); `sample_id` = uuid5 of pod UID, probe and time slot."""

    table: ClassVar[str] = "pod_health"
    sample_id: str
    at: datetime
    model_server: str
    namespace: str
    pod: str
    pod_uid: str
    model: str
    model_digest: str
    probe: str
    """`status` (what the agent says) or `generate` (one token)."""
    ok: bool
    phase: str
    """Phase of the agent: Starting, Pulling, Verifying, Loading, Warming, Ready, Failed; or Unreachable."""
    reason: str
    latency_ms: float
    """Milliseconds until the agent answered the probe."""
    in_flight: int | None
    queued: int | None
    tokens_per_second: float | None
    vram_bytes: int | None
    processor: str | None
    """CPU, GPU or Mixed."""


@dataclass(frozen=True, slots=True)
class DeploymentHealth:
    """Health of one AssistantDeployment, derived from its pods and routes; on change and once a minute."""

    table: ClassVar[str] = "deployment_health"
    sample_id: str
    at: datetime
    namespace: str
    deployment: str
    deployment_uid: str
    environment: str
    assistant: str
    revision: str
    revision_digest: str
    model: str
    model_digest: str
    model_server: str
    ready: bool
    reason: str
    wanted_replicas: int
    ready_replicas: int
    pods_ok: int
    """Pods whose newest probe was fine."""
    latency_ms: float | None
    """Milliseconds: the worst newest probe latency of its pods."""


@dataclass(frozen=True, slots=True)
class Usage:
    """One request that the gateway answered. No prompt, no completion, no key."""

    table: ClassVar[str] = "usage"
    request_id: str
    at: datetime
    namespace: str
    deployment: str
    revision: str
    model: str
    model_digest: str
    pod: str
    api: str
    """Route of the request, for example `/v1/chat/completions`."""
    stream: bool
    status: int
    error: str
    """Machine-readable class of the failure, empty if it went well."""
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    queue_ms: float
    first_token_ms: float | None
    total_ms: float


Row = PodHealth | DeploymentHealth | Usage
