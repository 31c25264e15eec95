"""ModelServer: gather users, children, pods and what their agents said; decide; act."""

from collections.abc import Callable
from typing import Final

from retinue.domain.deployment_target import Wanted, demand_of
from retinue.domain.environment import environment_of
from retinue.domain.external_decision import ObservedExternal, decide_external
from retinue.domain.model_pods import PodView, refused_pods
from retinue.domain.model_status import Demand
from retinue.domain.modelserver_decision import ObservedServer, decide_model_server, wanted_replicas
from retinue.domain.plan import Plan
from retinue.kube.cache import Key
from retinue.kube.client import Object
from retinue.reconcile.assistant_deployment import wanted_and_label
from retinue.reconcile.health import Probe
from retinue.reconcile.pods import creations, external_view, pod_views
from retinue.reconcile.world import BY_SERVER, CHILDREN, World, refused
from retinue.resources.v1alpha1.assistantdeployment import AssistantDeployment
from retinue.resources.v1alpha1.modelserver import ModelServer

Newest = Callable[[str], Probe | None]
"""The newest answer of a pod by its UID, of an external server by the UID of its ModelServer; never waits."""


ASKED_BEFORE_REMOVAL: Final = ("Namespace", "Assistant", "AssistantRevision", "AssistantDeployment")
"""Kinds that tell who needs a server; one is removed only once all of them have been listed everywhere."""
UNLISTED_SECONDS: Final = 60.0
"""Seconds until the next look at a server whose users cannot be known now."""


class ModelServerReconciler:
    """Keeps the pods of each ModelServer as its users want them."""

    def __init__(self, world: World, newest: Newest) -> None:
        self._world = world
        self._newest = newest

    async def reconcile(self, key: Key) -> float | None:
        """One pass; see `Reconciler`."""
        world = self._world
        obj = world.cache.get(*key)
        if obj is None:
            return None
        plan = await self._decide(ModelServer.from_object(obj))
        if any(delete.kind == key.kind for delete in plan.delete) and not world.cache.synced(*ASKED_BEFORE_REMOVAL):
            # A namespace that cannot be listed may hold a user: nobody is known not to need the server.
            return UNLISTED_SECONDS
        result = await world.actor.act(plan, obj, lambda refusal: refused(obj, refusal, world.now(), plan))
        return result.requeue_after

    async def _decide(self, server: ModelServer) -> Plan:
        world = self._world
        demands = self._demands(server)
        if server.spec.external_server is not None:
            view = external_view(self._newest(server.metadata.uid), server)
            return decide_external(ObservedExternal(server, world.platform, demands, view), world.now())
        pods = await pod_views(world, server, self._newest)
        found = {kind: world.cache.get(kind, server.namespace, server.name) for kind in CHILDREN}
        children = {kind: child for kind, child in found.items() if child is not None}
        observed = ObservedServer(
            server=server,
            platform=world.platform,
            demands=demands,
            children=children,
            pods=pods,
            refused=refused_pods(await self._refusals(server, demands, children, pods)),
        )
        return decide_model_server(observed, world.now())

    async def _refusals(
        self, server: ModelServer, demands: tuple[Demand, ...], children: dict[str, Object], pods: tuple[PodView, ...]
    ) -> list[Object]:
        """Events are read only while pods are missing that should be there."""
        staying = sum(not pod.leaving for pod in pods)
        if "StatefulSet" not in children or staying >= wanted_replicas(server, demands):
            return []
        return await creations(self._world, server)

    def _demands(self, server: ModelServer) -> tuple[Demand, ...]:
        """Everybody who uses the server; where nobody says so yet, everybody who is about to."""
        world = self._world
        users = world.cache.by_index("AssistantDeployment", BY_SERVER, server.name)
        found = [self._demand(AssistantDeployment.from_object(user)) for user in users if not _leaving(user)]
        return tuple(found) or tuple(self._coming(server))

    def _coming(self, server: ModelServer) -> list[Demand]:
        """Deployments whose status does not name the server yet although their spec needs it.

        Without this look a server could be removed in the moment in which somebody begins to need it.
        """
        world = self._world
        coming = []
        for obj in world.cache.list("AssistantDeployment"):
            if _leaving(obj):
                continue
            deployment = AssistantDeployment.from_object(obj)
            assistant = world.assistant(deployment.namespace, deployment.spec.assistant)
            environment = environment_of(deployment.namespace, world.cache.get("Namespace", "", deployment.namespace))
            wanted, _ = wanted_and_label(world, deployment, assistant, environment)
            if isinstance(wanted, Wanted) and wanted.server_name == server.name:
                coming.append(self._demand(deployment))
        return coming

    def _demand(self, deployment: AssistantDeployment) -> Demand:
        assistant = self._world.assistant(deployment.namespace, deployment.spec.assistant)
        return Demand(
            namespace=deployment.namespace,
            name=deployment.name,
            replicas=demand_of(deployment, assistant),
            pull_seconds=deployment.spec.deadlines.pull_seconds,
        )


def _leaving(obj: Object) -> bool:
    return "deletionTimestamp" in obj["metadata"]
