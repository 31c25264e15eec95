"""AssistantRevision: gather its siblings, decide on digest and number, act."""

from retinue.domain.revision_decision import ObservedRevision, decide_revision
from retinue.kube.cache import Key
from retinue.reconcile.world import BY_ASSISTANT, World


class AssistantRevisionReconciler:
    """Says of each revision whether it may be served, and numbers it."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def reconcile(self, key: Key) -> float | None:
        """One pass; see `Reconciler`."""
        world = self._world
        obj = world.cache.get(*key)
        if obj is None:
            return None
        name = obj["spec"].get("assistant", "")
        assistant = world.assistant(key.namespace, name)
        observed = ObservedRevision(
            revision=obj,
            siblings=tuple(world.cache.by_index("AssistantRevision", BY_ASSISTANT, f"{key.namespace}/{name}")),
            floor=(assistant.status.latest_ordinal or 0) if assistant is not None else 0,
        )
        plan = decide_revision(observed, world.now())
        return (await world.actor.act(plan, obj)).requeue_after
