"""The parts of a ModelServer's status that are read off its pods: progress of the pull, pod list, users."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from retinue.domain.conditions import FALSE, TRUE, UNKNOWN, Finding, whole_seconds
from retinue.domain.model_pods import PodView
from retinue.resources.meta import MODEL_MATCHED, MODEL_PRESENT, WARM
from retinue.resources.reasons import (
    DIGEST_MATCHES,
    LOADED,
    NO_PODS,
    NOT_LOADED,
    NOT_ON_DISK,
    NOT_PRESENT_YET,
    ON_DISK,
    TAG_MOVED,
)
from retinue.resources.v1alpha1.assistantdeployment import Deadlines
from retinue.resources.v1alpha1.modelserver import PodStatus, Processor, Pull, User

MAX_LISTED: Final = 50
"""Pods and users that stand in the status by name; the counts are of all."""
PULL_STEP_PERCENT: Final = 5
"""Progress of a pull is written in steps of this size."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What one AssistantDeployment asks of a ModelServer."""

    namespace: str
    name: str
    replicas: int
    pull_seconds: int


def users_of(demands: Sequence[Demand]) -> tuple[User, ...]:
    """The users by name, at most MAX_LISTED."""
    ordered = sorted((d.namespace, d.name) for d in demands)
    return tuple(User(namespace=namespace, name=name) for namespace, name in ordered[:MAX_LISTED])


def pull_of(pods: Sequence[PodView], before: Pull | None, demands: Sequence[Demand], now: datetime) -> Pull | None:
    """The pull that is least far, or None if no pod pulls.

    What was written before stays until there is a step of progress: otherwise each look would be a write.
    """
    running = [
        (pod.agent.completed_bytes / max(1, pod.agent.total_bytes), pod.agent.completed_bytes, pod.agent)
        for pod in pods
        if pod.agent is not None and pod.agent.completed_bytes is not None and not pod.leaving and not pod.ready
    ]
    if not running:
        return None
    share, completed, agent = min(running, key=lambda r: (r[0], r[1]))
    started = whole_seconds(agent.pull_started or now)
    longest = max((d.pull_seconds for d in demands), default=Deadlines().pull_seconds)
    if before is not None and before.total_bytes == agent.total_bytes and before.started_at is not None:
        # An attempt that starts again goes on where the last one stood, and so does its clock.
        started = min(started, before.started_at)
        moved = abs(share * 100 - before.completed_bytes * 100 / max(1, before.total_bytes))
        if moved < PULL_STEP_PERCENT and before.deadline_at == started + timedelta(seconds=longest):
            return before
    return Pull(
        completed_bytes=completed,
        total_bytes=agent.total_bytes,
        started_at=started,
        deadline_at=started + timedelta(seconds=longest),
    )


def pod_statuses(pods: Sequence[PodView], before: Sequence[PodStatus]) -> tuple[PodStatus, ...]:
    """The pods by name, at most MAX_LISTED. What was known of a pod stays until its agent has been asked again."""
    known = {status.name: status for status in before}
    return tuple(_pod_status(pod, known.get(pod.name)) for pod in sorted(pods, key=lambda p: p.name)[:MAX_LISTED])


def _pod_status(pod: PodView, before: PodStatus | None) -> PodStatus:
    agent = pod.agent
    # The kubelet may know of readiness before the operator asks the agent again; what it said before is over then.
    served = {"phase": "Ready", "loaded": True} if pod.ready else {}
    if not pod.asked:
        known = before or PodStatus(name=pod.name)
        return known.model_copy(update={"ready": pod.ready, **served})
    if agent is None:
        return PodStatus(name=pod.name, ready=pod.ready, phase="Unreachable" if pod.address else None)
    return PodStatus(
        name=pod.name,
        ready=pod.ready,
        phase="Ready" if pod.ready else agent.phase[:32],
        loaded=agent.loaded or pod.ready,
        processor=next((p for p in Processor if p.value == agent.processor), None),
        vram_bytes=agent.vram_bytes,
    )


def model_findings(pods: Sequence[PodView], wanted: int) -> tuple[Finding, ...]:
    """ModelPresent, ModelMatched and Warm: where the model is on its way from the registry to its first token."""
    staying = [pod for pod in pods if not pod.leaving]
    if wanted == 0:
        return tuple(
            Finding(kind, UNKNOWN, NO_PODS, "no pod is wanted") for kind in (MODEL_PRESENT, MODEL_MATCHED, WARM)
        )
    present = sum(pod.present for pod in staying)
    ready = sum(pod.ready for pod in staying)
    moved = [pod.name for pod in staying if pod.agent is not None and pod.agent.reason == TAG_MOVED]
    if moved:
        matched = Finding(
            MODEL_MATCHED, FALSE, TAG_MOVED, f"other content under the model's name on {', '.join(moved)}"
        )
    elif present >= wanted:
        matched = Finding(MODEL_MATCHED, TRUE, DIGEST_MATCHES)
    else:
        matched = Finding(MODEL_MATCHED, UNKNOWN, NOT_PRESENT_YET)
    return (
        Finding(MODEL_PRESENT, TRUE, ON_DISK) if present >= wanted else Finding(MODEL_PRESENT, FALSE, NOT_ON_DISK),
        matched,
        Finding(WARM, TRUE, LOADED) if ready >= wanted else Finding(WARM, FALSE, NOT_LOADED),
    )
