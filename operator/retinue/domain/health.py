"""What is probed, when, and what the answers say: the pure part of health rows."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from retinue.domain.inference import request_constants
from retinue.resources.meta import AVAILABLE, LABEL_MODEL_SERVER, READY, RECONCILING, STALLED
from retinue.resources.platform import PlatformConfig
from retinue.resources.reasons import NO_PODS

Object = Mapping[str, Any]

AGENT_PORT: Final = 8080
"""Port of the agent in every model pod."""
STATUS: Final = "status"
"""Name of the probe that asks the agent how its pod is."""
GENERATE: Final = "generate"
"""Name of the probe that lets the model produce one token."""
UNREACHABLE: Final = "Unreachable"
"""Phase of a pod whose agent did not answer."""
PULL_STEP: Final = 5
"""Percent of a pull that count as a change worth looking at."""


class Pull(Protocol):
    """Progress of a pull."""

    @property
    def completed_bytes(self) -> int:
        """Bytes that have arrived."""
        ...

    @property
    def total_bytes(self) -> int:
        """Bytes of the whole, as far as known."""
        ...


class Report(Protocol):
    """What an agent says of its pod; the parts that health looks at."""

    @property
    def phase(self) -> str:
        """Starting, Pulling, Verifying, Loading, Warming, Ready or Failed."""
        ...

    @property
    def reason(self) -> str:
        """Why it is not getting on, or empty."""
        ...

    @property
    def digest(self) -> str:
        """What is on disk, or empty."""
        ...

    @property
    def loaded(self) -> bool:
        """The model is in memory."""
        ...

    @property
    def processor(self) -> str | None:
        """CPU, GPU or Mixed."""
        ...

    @property
    def pull(self) -> Pull | None:
        """A pull that is under way."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """One pod, or one external server, that is probed."""

    uid: str
    """UID of the pod; of the ModelServer where the server is external."""
    name: str
    """Name of the pod or of the external server."""
    namespace: str
    model_server: str
    base_url: str
    model: str
    model_digest: str
    external: bool
    constants: Mapping[str, Any]
    """Request constants of the ModelServer, so that a probe never makes Ollama reload its model."""


@dataclass(frozen=True, slots=True)
class _Runner:
    num_ctx: int | None
    shift: bool | None


def targets(servers: Iterable[Object], pods: Iterable[Object], platform: PlatformConfig) -> list[Target]:
    """Everything to probe now: running pods of known ModelServers, and listed external servers.

    A pod without an address cannot be asked, one that is being deleted need not be.
    """
    by_server: dict[tuple[str, str], list[Object]] = {}
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status") or {}
        server = (metadata.get("labels") or {}).get(LABEL_MODEL_SERVER)
        ended = "deletionTimestamp" in metadata or status.get("phase") in ("Succeeded", "Failed")
        if server and status.get("podIP") and not ended:
            by_server.setdefault((metadata["namespace"], server), []).append(pod)
    found: list[Target] = []
    for server in servers:
        metadata, spec = server["metadata"], server["spec"]
        if "deletionTimestamp" in metadata:
            continue
        if spec.get("externalServer"):
            listed = platform.external_server(spec["externalServer"])
            if listed is not None:
                found.append(_target(server, metadata["uid"], listed.name, listed.url, None, external=True))
            continue
        profile = platform.profile(spec.get("profile") or "")
        for pod in by_server.get((metadata["namespace"], metadata["name"]), ()):
            url = f"http://{_host(pod['status']['podIP'])}:{AGENT_PORT}"
            found.append(_target(server, pod["metadata"]["uid"], pod["metadata"]["name"], url, profile, external=False))
    return found


def phase_offset(uid: str, period: float) -> float:
    """Seconds by which the probes of a pod are shifted: the same after a restart, spread evenly over pods."""
    return zlib.crc32(uid.encode()) / 2**32 * period


def slot(now: float, period: float, offset: float) -> int:
    """Number of the probing period that `now` (Unix seconds) lies in."""
    return int((now - offset) // period)


def picture(report: Report) -> tuple[object, ...]:
    """What must be the same for nobody to care: compared from look to look."""
    pulled = None
    if report.pull is not None and report.pull.total_bytes > 0:
        pulled = 100 * report.pull.completed_bytes // report.pull.total_bytes // PULL_STEP
    return (report.phase, report.reason, report.digest, report.loaded, report.processor, report.pull is None, pulled)


@dataclass(frozen=True, slots=True)
class PodState:
    """What the newest probes of one pod come to."""

    ok: bool
    reason: str
    """Why not; empty if it is."""
    latency_ms: float


@dataclass(frozen=True, slots=True)
class DeploymentFacts:
    """What the API server says of an AssistantDeployment, as far as its health needs it."""

    namespace: str
    name: str
    uid: str
    environment: str
    assistant: str
    revision: str
    revision_digest: str
    model: str
    model_digest: str
    model_server: str
    wanted_replicas: int
    ready_replicas: int
    available: bool
    reason: str
    """Why it is not available, in one word of its conditions."""


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """Health of an AssistantDeployment; it is written down whenever this differs from before."""

    ready: bool
    reason: str
    revision: str
    model_server: str
    wanted_replicas: int
    ready_replicas: int
    pods_ok: int


def facts_of(deployment: Object, revision: Object | None) -> DeploymentFacts | None:
    """Facts of a deployment object and of its active revision; None before the operator has looked at it."""
    metadata, spec, status = deployment["metadata"], deployment["spec"], deployment.get("status") or {}
    if status.get("observedGeneration", -1) < 0:
        return None
    conditions = {c["type"]: c for c in status.get("conditions") or []}
    frozen = (revision or {}).get("spec") or {}
    model = (frozen.get("snapshot") or {}).get("model") or {}
    causes = (conditions[kind] for kind in (STALLED, RECONCILING, AVAILABLE, READY) if kind in conditions)
    cause: Object = next(causes, {})
    return DeploymentFacts(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        environment=status.get("environment") or "",
        assistant=spec.get("assistant") or "",
        revision=status.get("activeRevision") or "",
        revision_digest=frozen.get("digest") or "",
        model=model.get("name") or "",
        model_digest=model.get("digest") or "",
        model_server=status.get("modelServer") or "",
        wanted_replicas=spec.get("replicas", 1),
        ready_replicas=status.get("readyReplicas") or 0,
        available=conditions.get(AVAILABLE, {}).get("status") == "True",
        reason=cause.get("reason") or "",
    )


def derive(facts: DeploymentFacts, pods: Sequence[PodState]) -> DeploymentState:
    """Health of a deployment from its status and the newest probes of its pods.

    Ready means both: its route is open, and at least one pod behind it was fine when it was last asked.
    """
    fine = sum(pod.ok for pod in pods)
    if not facts.available:
        ready, reason = False, facts.reason or "NotAvailable"
    elif fine:
        ready, reason = True, ""
    else:
        ready, reason = False, next((pod.reason for pod in pods if pod.reason), NO_PODS)
    return DeploymentState(
        ready=ready,
        reason=reason,
        revision=facts.revision,
        model_server=facts.model_server,
        wanted_replicas=facts.wanted_replicas,
        ready_replicas=facts.ready_replicas,
        pods_ok=fine,
    )


def worst_latency(pods: Sequence[PodState]) -> float | None:
    """Milliseconds of the slowest pod that answers; None without one."""
    return max((pod.latency_ms for pod in pods if pod.ok), default=None)


def unix(moment: datetime) -> float:
    """Seconds since 1970 of an aware time."""
    return moment.timestamp()


def _target(server: Object, uid: str, name: str, url: str, profile: Any, *, external: bool) -> Target:
    metadata, spec = server["metadata"], server["spec"]
    runner = spec.get("runner") or {}
    return Target(
        uid=uid,
        name=name,
        namespace=metadata["namespace"],
        model_server=metadata["name"],
        base_url=url,
        model=spec["model"]["name"],
        model_digest=spec["model"].get("digest") or "",
        external=external,
        constants=request_constants(_Runner(runner.get("numCtx"), runner.get("shift")), profile),
    )


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
