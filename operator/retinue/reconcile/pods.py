"""Reads what a ModelServer's decision needs of pods: their agents' words, lost nodes, claims, refused creations."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from retinue.domain.external_decision import ExternalView
from retinue.domain.model_pods import AgentView, PodView, pod_view
from retinue.domain.modelserver_decision import NODE_LOST
from retinue.kube import errors
from retinue.kube.client import Object
from retinue.kube.resources import NODE, PERSISTENT_VOLUME_CLAIM
from retinue.ollama.agent_client import AgentStatus
from retinue.ollama.names import same_digest
from retinue.reconcile.health import Probe
from retinue.reconcile.world import BY_SERVER, World
from retinue.resources.meta import WARM
from retinue.resources.v1alpha1.modelserver import ModelServer

SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
"""On a claim: the node for which its volume was made."""


async def pod_views(world: World, server: ModelServer, newest: Callable[[str], Probe | None]) -> tuple[PodView, ...]:
    """The pods of a ModelServer with everything that is known of them."""
    views = []
    for pod in world.cache.by_index("Pod", BY_SERVER, server.name):
        probe = newest(pod["metadata"].get("uid", ""))
        report = probe.report if probe is not None else None
        view = pod_view(pod, agent_view(report) if report is not None else None, asked=probe is not None)
        # Only a silent or leaving pod makes the operator ask for its node.
        if view.node and not view.ready and (view.leaving or (view.asked and view.agent is None)):
            view = await _with_node(world, server, view)
        views.append(view)
    return tuple(views)


def agent_view(report: AgentStatus) -> AgentView:
    """What an agent said, in the words of the domain."""
    pull = report.pull
    return AgentView(
        phase=report.phase,
        reason=report.reason,
        message=report.message,
        digest=report.digest,
        on_disk=same_digest(report.digest, report.wanted_digest),
        completed_bytes=pull.completed_bytes if pull is not None else None,
        total_bytes=pull.total_bytes if pull is not None else 0,
        pull_started=_time(pull.started_at) if pull is not None else None,
        loaded=report.loaded,
        processor=report.processor,
        vram_bytes=report.vram_bytes,
    )


def external_view(probe: Probe | None, server: ModelServer) -> ExternalView | None:
    """What is known of an external server; None before it has been asked."""
    if probe is None:
        return None
    report = probe.report
    if report is None:
        return ExternalView(reachable=False, error=probe.message or probe.reason)
    # After a restart no token has been generated yet: what was proven before still counts.
    proven = probe.token_ok is None and server.status.is_true(WARM)
    return ExternalView(
        reachable=True,
        digest=report.digest,
        token_error=probe.token_error if probe.token_ok is False else None,
        warm=probe.token_ok is True or proven,
    )


async def creations(world: World, server: ModelServer) -> list[Object]:
    """The Events of the StatefulSet: the only place where refusals of pods are told."""
    query = {"fieldSelector": f"involvedObject.kind=StatefulSet,involvedObject.name={server.name}"}
    reply = await world.client.request("GET", f"/api/v1/namespaces/{server.namespace}/events", query=query)
    items: list[Object] = reply.get("items") or []
    return items


async def _with_node(world: World, server: ModelServer, pod: PodView) -> PodView:
    since = await _lost_since(world, pod.node)
    if since is None:
        return pod
    return replace(pod, node_lost_since=since, claim=await _bound_claim(world, server, pod))


async def _lost_since(world: World, name: str) -> datetime | None:
    """Since when a node is not Ready; a node that is gone has been lost for long enough."""
    try:
        node = await world.client.get(NODE, name)
    except errors.NotFound:
        return world.now() - NODE_LOST - timedelta(seconds=1)
    except errors.Forbidden:
        return None
    conditions = (node.get("status") or {}).get("conditions") or []
    ready = next((c for c in conditions if c["type"] == "Ready"), None)
    if ready is None or ready["status"] == "True":
        return None
    return _time(ready.get("lastTransitionTime", ""))


async def _bound_claim(world: World, server: ModelServer, pod: PodView) -> tuple[str, str, str] | None:
    try:
        claim = await world.client.get(PERSISTENT_VOLUME_CLAIM, f"models-{pod.name}", server.namespace)
    except errors.NotFound:
        return None
    metadata = claim["metadata"]
    if (metadata.get("annotations") or {}).get(SELECTED_NODE) != pod.node or "deletionTimestamp" in metadata:
        return None
    return metadata["name"], metadata["uid"], metadata["resourceVersion"]


def _time(text: str) -> datetime | None:
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return None
    return read if read.tzinfo is not None else read.replace(tzinfo=UTC)
