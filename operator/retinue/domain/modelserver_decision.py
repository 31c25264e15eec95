"""ModelServer: its children, how many pods, what its status says, and when it is no longer needed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from retinue.domain.conditions import Finding, Problem, merge, ready, whole_seconds
from retinue.domain.desired.networkpolicy import build_network_policy
from retinue.domain.desired.poddisruptionbudget import build_pod_disruption_budget
from retinue.domain.desired.service import build_service
from retinue.domain.desired.statefulset import build_stateful_set
from retinue.domain.model_causes import cause_of
from retinue.domain.model_pods import PodView
from retinue.domain.model_status import Demand, model_findings, pod_statuses, pull_of, users_of
from retinue.domain.plan import Delete, Plan
from retinue.domain.transitions import events_of
from retinue.resources.platform import PlatformConfig
from retinue.resources.reasons import (
    ALL_PODS_READY,
    OLD_CHILDREN_LEAVING,
    PROFILE_UNKNOWN,
    ROLLING_OUT,
    SCALED_TO_ZERO,
    SCALING_DOWN,
)
from retinue.resources.v1alpha1.modelserver import ModelServer, ModelServerStatus, Pull

Object = dict[str, Any]

UNSETTLED_SECONDS: Final = 5.0
"""Seconds until the next look while pods are missing. Pods and agents report themselves; refusals of the API server
to create a pod do not."""
NODE_LOST: Final = timedelta(minutes=5)
"""How long a node may be NotReady before its model pods are given up; as long as Kubernetes itself waits."""


@dataclass(frozen=True, slots=True)
class ObservedServer:
    """Everything that a decision about one ModelServer with pods looks at."""

    server: ModelServer
    platform: PlatformConfig
    demands: tuple[Demand, ...]
    children: dict[str, Object] = field(default_factory=dict)
    """The live children by kind; absent: does not exist."""
    pods: tuple[PodView, ...] = ()
    refused: Problem | None = None
    """Why the API server refuses new pods, if it does."""


def decide_model_server(observed: ObservedServer, now: datetime) -> Plan:
    """The plan for one ModelServer with pods. External servers: `external_decision`."""
    server = observed.server
    if server.deleting:
        return Plan()
    unused = unused_since(server, observed.demands, now)
    gone = removal(server, unused, observed.platform, now)
    if gone is not None:
        return gone
    before, generation = server.status, server.metadata.generation
    profile = observed.platform.profile(server.spec.profile or "")
    pull = pull_of(observed.pods, before.pull, observed.demands, now)
    wanted = wanted_replicas(server, observed.demands)
    children: tuple[Object, ...] = ()
    foreign = _foreign_child(observed)
    main: Sequence[Finding]
    if profile is None:
        main = _profile_unknown(observed).findings()
    elif foreign is not None:
        main = foreign.findings()
    else:
        desired = (
            build_network_policy(server, observed.platform),
            build_service(server),
            build_pod_disruption_budget(server),
            build_stateful_set(server, profile, observed.platform, wanted, observed.children.get("StatefulSet")),
        )
        children = tuple(c for c in desired if c is not None)
        main = _ready_findings(observed, wanted, pull, now)
    findings = (*main, *model_findings(observed.pods, wanted))
    staying = [pod for pod in observed.pods if not pod.leaving]
    # Just started: what pods say is not known yet, and a guess would write, flap and restart clocks.
    hold = before.observed_generation >= 0 and any(p.address and not p.ready and not p.asked for p in staying)
    status = ModelServerStatus(
        observed_generation=generation,
        conditions=merge(before.conditions, findings, generation, now),
        desired_replicas=wanted,
        replicas=len(staying),
        ready_replicas=sum(pod.ready for pod in staying),
        pull=pull,
        pods=pod_statuses(staying, before.pods),
        users=users_of(observed.demands),
        user_count=len(observed.demands),
        unused_since=unused,
    )
    settled = sum(pod.ready for pod in staying) >= wanted and len(observed.pods) == wanted
    return Plan(
        apply=children,
        delete=_lost_pods(observed, now),
        status=None if hold else status.to_object(),
        events=() if hold else events_of(before.conditions, findings),
        requeue_after=_requeue(observed, settled, unused, now),
    )


def wanted_replicas(server: ModelServer, demands: Sequence[Demand]) -> int:
    """The largest wish of all users. Without users the pods stay as they are until the server is deleted."""
    if not demands:
        return server.status.desired_replicas or 0
    return max(d.replicas for d in demands)


def unused_since(server: ModelServer, demands: Sequence[Demand], now: datetime) -> datetime | None:
    """Since when nobody uses the server; None: somebody does."""
    return None if demands else server.status.unused_since or whole_seconds(now)


def removal(server: ModelServer, unused: datetime | None, platform: PlatformConfig, now: datetime) -> Plan | None:
    """The plan that deletes a server which nobody has needed for long enough, or None.

    UID and resourceVersion are preconditions: a user that came since this look has changed neither, but its own
    reconcile finds the server gone and makes it again.
    """
    if unused is None or now < unused + timedelta(seconds=platform.unused_seconds):
        return None
    meta = server.metadata
    return Plan(delete=(Delete("ModelServer", server.name, server.namespace, meta.uid, meta.resource_version),))


def _profile_unknown(observed: ObservedServer) -> Problem:
    listed = ", ".join(p.name for p in observed.platform.profiles)
    return Problem(
        PROFILE_UNKNOWN,
        f"spec.profile: profile {observed.server.spec.profile} is not listed any more (listed: {listed}); its pods "
        "stay as they are: move the deployments to a listed profile with spec.runtime.profile, or list it again",
    )


def _foreign_child(observed: ObservedServer) -> Problem | None:
    """A child of an earlier ModelServer of this name, which the garbage collector is about to remove."""
    for kind, child in sorted(observed.children.items()):
        owner = next((o for o in child["metadata"].get("ownerReferences") or [] if o.get("controller")), None)
        other = owner is not None and owner.get("uid") != observed.server.metadata.uid
        if other or "deletionTimestamp" in child["metadata"]:
            return Problem(
                OLD_CHILDREN_LEAVING,
                f"{kind} {observed.server.name} of an earlier ModelServer is being removed",
                waits=True,
            )
    return None


def _ready_findings(observed: ObservedServer, wanted: int, pull: Pull | None, now: datetime) -> tuple[Finding, ...]:
    pods = observed.pods
    ready_pods = sum(pod.ready for pod in pods)
    model = observed.server.spec.model
    if ready_pods < wanted:
        return cause_of(pods, wanted, model, refused=observed.refused, pull=pull, now=now).findings()
    if not _rolled_out(observed.children.get("StatefulSet"), wanted):
        return Problem(ROLLING_OUT, f"{ready_pods} of {wanted} pods Ready; their profile changes", True).findings()
    if len(pods) > wanted:
        return Problem(SCALING_DOWN, f"pods that are leaving: {len(pods) - wanted}", True).findings()
    if wanted == 0:
        return ready(SCALED_TO_ZERO, "no pod is wanted")
    return ready(ALL_PODS_READY, f"{wanted} of {wanted} pods serve {model.name}")


def _rolled_out(stateful_set: Object | None, wanted: int) -> bool:
    """Whether every pod has the newest template."""
    if stateful_set is None:
        return False
    status = stateful_set.get("status") or {}
    if status.get("observedGeneration", 0) < stateful_set["metadata"].get("generation", 0):
        return False
    return (
        bool(status.get("updateRevision") == status.get("currentRevision")) or status.get("updatedReplicas") == wanted
    )


def _lost_pods(observed: ObservedServer, now: datetime) -> tuple[Delete, ...]:
    """Pods on nodes that are lost for NODE_LOST, each after its claim: the claim could bind the new pod to that node.

    Nothing but a copy of the model is on such a volume. Without force the pod would stay Terminating for ever.
    """
    deletes: list[Delete] = []
    for pod in observed.pods:
        if pod.node_lost_since is None or now < pod.node_lost_since + NODE_LOST:
            continue
        namespace = observed.server.namespace
        if pod.claim is not None:
            name, uid, version = pod.claim
            deletes.append(Delete("PersistentVolumeClaim", name, namespace, uid, version))
        deletes.append(Delete("Pod", pod.name, namespace, pod.uid, pod.resource_version, grace_period_seconds=0))
    return tuple(deletes)


def _requeue(observed: ObservedServer, settled: bool, unused: datetime | None, now: datetime) -> float | None:
    """Seconds until the next look that no event would bring about."""
    looks: list[float] = []
    if not settled:
        looks.append(UNSETTLED_SECONDS)
    if unused is not None:
        left = (unused + timedelta(seconds=observed.platform.unused_seconds) - now).total_seconds()
        looks.append(max(1.0, left))
    return min(looks) if looks else None
