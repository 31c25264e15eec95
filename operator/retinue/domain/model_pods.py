"""Model pods as a decision sees them: the pod object, what its agent says, and whether its node is lost."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from retinue.domain.conditions import Problem
from retinue.resources.reasons import (
    CONTAINER_CRASHES,
    CONTAINER_NOT_STARTED,
    IMAGE_PULL_FAILED,
    OUT_OF_MEMORY,
    POD_NOT_CREATED,
    POD_REFUSED,
    POD_SECURITY_REFUSED,
    QUOTA_EXCEEDED,
    SCHEDULER_ERROR,
    SCHEDULING_GATED,
    UNSCHEDULABLE,
)

Object = dict[str, Any]

AFTER_PULL: Final = frozenset({"Loading", "Warming", "Ready"})
"""Phases of an agent in which the right model is on disk."""


@dataclass(frozen=True, slots=True)
class AgentView:
    """What the agent of a pod last said; without it the agent did not answer."""

    phase: str
    reason: str = ""
    message: str = ""
    digest: str = ""
    on_disk: bool = False
    """Its disk holds the wanted digest, whatever became of the model after that."""
    completed_bytes: int | None = None
    """Bytes of a running pull; None: no pull is running."""
    total_bytes: int = 0
    pull_started: datetime | None = None
    loaded: bool = False
    processor: str | None = None
    vram_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class PodView:
    """One model pod."""

    name: str
    uid: str
    resource_version: str
    ready: bool
    leaving: bool
    """It is being deleted."""
    address: str
    """Its IP, or empty."""
    node: str
    scheduling: Problem | None
    waiting: Problem | None
    """Why a container does not run, as the kubelet says."""
    agent: AgentView | None = None
    asked: bool = True
    """False: its agent has not been asked yet, so that `agent` says nothing."""
    node_lost_since: datetime | None = None
    """Since when its node is NotReady or gone; None: the node is well."""
    claim: tuple[str, str, str] | None = None
    """(name, UID, resourceVersion) of its claim, if the claim's volume can only be used on the lost node."""

    @property
    def present(self) -> bool:
        """The model is on its disk. A Ready pod has it by definition, even if its agent cannot be asked from here."""
        agent = self.agent
        return self.ready or (agent is not None and (agent.on_disk or agent.phase in AFTER_PULL))


def pod_view(pod: Object, agent: AgentView | None = None, *, asked: bool = True) -> PodView:
    """The view of a pod object, without what is known of its node and its claim."""
    metadata, status, spec = pod["metadata"], pod.get("status") or {}, pod.get("spec") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or []}
    leaving = "deletionTimestamp" in metadata
    return PodView(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        resource_version=metadata.get("resourceVersion", ""),
        ready=conditions.get("Ready", {}).get("status") == "True" and not leaving,
        leaving=leaving,
        address=status.get("podIP") or "",
        node=spec.get("nodeName") or "",
        scheduling=_scheduling(metadata["name"], conditions.get("PodScheduled") or {}),
        waiting=_waiting(metadata["name"], status),
        agent=agent,
        asked=asked,
    )


def _scheduling(pod: str, condition: Object) -> Problem | None:
    if condition.get("status") != "False":
        return None
    reason, said = condition.get("reason") or UNSCHEDULABLE, condition.get("message", "")
    if reason == SCHEDULER_ERROR:
        # The scheduler's own mishap (it lost a race for the claim, a plug-in failed): no lack of room, no advice.
        return Problem(reason, f"pod {pod} is not placed yet: {said}; the scheduler tries again by itself", waits=True)
    if reason == SCHEDULING_GATED:
        return Problem(reason, f"pod {pod} is held back: {said}; see its spec.schedulingGates", waits=True)
    return Problem(
        UNSCHEDULABLE,
        f"pod {pod} fits on no node: {said}; add capacity, or choose another profile in spec.runtime.profile",
        waits=True,
    )


_IMAGE_REASONS: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"})


def _waiting(pod: str, status: Object) -> Problem | None:
    """The first container that does not run for a reason that people can act on."""
    for container in (*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, message = waiting.get("reason") or "", waiting.get("message") or ""
        where = f"pod {pod}, container {container.get('name')}"
        if reason in _IMAGE_REASONS:
            return Problem(
                IMAGE_PULL_FAILED,
                f"{where}: image {container.get('image')} cannot be pulled ({reason}: {message}); "
                "correct the image in the chart's values, or make it reachable from the nodes",
                waits=True,
            )
        if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
            return Problem(
                CONTAINER_NOT_STARTED, f"{where}: {reason}: {message}; see `kubectl describe pod {pod}`", waits=True
            )
        if reason == "CrashLoopBackOff":
            last = (container.get("lastState") or {}).get("terminated") or {}
            ended = last.get("reason") or "Error"
            action = (
                "raise the memory limit of the profile"
                if ended == "OOMKilled"
                else f"see `kubectl logs {pod} -c {container.get('name')} --previous`"
            )
            return Problem(
                OUT_OF_MEMORY if ended == "OOMKilled" else CONTAINER_CRASHES,
                f"{where} ended with {ended} (exit code {last.get('exitCode')}); {action}",
                waits=True,
            )
    return None


def refused_pods(events: Sequence[Object]) -> Problem | None:
    """Why the API server refuses new pods of a StatefulSet, from its newest FailedCreate event.

    A pod that was created later ends it: events stay for an hour. Quota and Pod Security are told apart, because other
    people can mend them.
    """
    failures = [e for e in events if e.get("reason") == "FailedCreate"]
    if not failures:
        return None
    newest = max(failures, key=_seen)
    if any(e.get("reason") == "SuccessfulCreate" and _seen(e) > _seen(newest) for e in events):
        return None
    message = str(newest.get("message") or "")
    text = message.lower()
    if "exceeded quota" in text:
        return Problem(QUOTA_EXCEEDED, f"{message}; raise the ResourceQuota of the models namespace, or need less")
    if "violates podsecurity" in text:
        return Problem(
            POD_SECURITY_REFUSED,
            f"{message}; the profile asks for more than the namespace's Pod Security level allows: correct the profile",
        )
    if "forbidden" in text or "denied" in text:
        return Problem(POD_REFUSED, f"{message}; an admission rule of the models namespace refuses model pods")
    return Problem(POD_NOT_CREATED, f"{message}", waits=True)


def _seen(event: Object) -> str:
    """When an event was last seen; RFC 3339 texts of equal form compare as times do."""
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")
