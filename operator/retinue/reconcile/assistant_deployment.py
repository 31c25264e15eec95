"""AssistantDeployment: gather what it wants and what it is bound to, decide, act."""

from retinue.domain.conditions import Problem
from retinue.domain.deployment_decision import ObservedDeployment, decide_deployment
from retinue.domain.deployment_target import Wanted, pause_of, wanted_of, wanted_revision
from retinue.domain.environment import Environment, environment_of
from retinue.kube.cache import Key
from retinue.kube.client import Object
from retinue.reconcile.world import World, refused, servers_of
from retinue.resources.v1alpha1.assistant import Assistant
from retinue.resources.v1alpha1.assistantdeployment import AssistantDeployment


class AssistantDeploymentReconciler:
    """Brings the wanted revision to a ModelServer and users to it."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def reconcile(self, key: Key) -> float | None:
        """One pass; see `Reconciler`."""
        world = self._world
        obj = world.cache.get(*key)
        if obj is None:
            return None
        observed = await self._gather(obj)
        plan = decide_deployment(observed, world.now())
        result = await world.actor.act(plan, obj, lambda refusal: refused(obj, refusal, world.now()))
        return result.requeue_after

    async def _gather(self, obj: Object) -> ObservedDeployment:
        world = self._world
        deployment = AssistantDeployment.from_object(obj)
        place = deployment.namespace
        environment = environment_of(place, await world.namespace(place))
        assistant = world.assistant(place, deployment.spec.assistant)
        wanted, label = wanted_and_label(world, deployment, assistant, environment)
        names = servers_of(obj) | ({wanted.server_name} if isinstance(wanted, Wanted) else set())
        return ObservedDeployment(
            deployment=deployment,
            environment=environment,
            wanted=wanted,
            platform=world.platform,
            pause=pause_of(deployment, assistant),
            assistant=assistant,
            servers=world.servers(names),
            revision_label=label,
        )


def wanted_and_label(
    world: World,
    deployment: AssistantDeployment,
    assistant: Assistant | None,
    environment: Environment | Problem,
) -> tuple[Wanted | Problem, str]:
    """What a deployment asks for, as far as the cache knows, and the number of its revision for people."""
    if isinstance(environment, Problem):
        return environment, ""
    name = wanted_revision(deployment, assistant)
    if isinstance(name, Problem):
        return name, ""
    revision = world.cache.get("AssistantRevision", deployment.namespace, name)
    ordinal = ((revision or {}).get("status") or {}).get("ordinal")
    wanted = wanted_of(deployment, name, revision, environment, world.platform)
    return wanted, f"r{ordinal}" if ordinal is not None else ""
