"""AssistantTemplate: gather nothing but itself, decide, act."""

from retinue.domain.template_decision import decide_template
from retinue.kube.cache import Key
from retinue.reconcile.world import World
from retinue.resources.v1alpha1.assistanttemplate import AssistantTemplate


class AssistantTemplateReconciler:
    """Says of each template whether it can be used."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def reconcile(self, key: Key) -> float | None:
        """One pass; see `Reconciler`."""
        obj = self._world.cache.get(*key)
        if obj is None:
            return None
        plan = decide_template(AssistantTemplate.from_object(obj), self._world.now())
        return (await self._world.actor.act(plan, obj)).requeue_after
