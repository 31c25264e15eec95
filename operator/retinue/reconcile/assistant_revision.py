"""AssistantRevision: gather its siblings, decide on digest and number, act."""

import asyncio
from weakref import WeakValueDictionary

from retinue.domain.revision_decision import ObservedRevision, decide_revision
from retinue.kube.cache import Key
from retinue.kube.client import Object
from retinue.reconcile.world import BY_ASSISTANT, World


class AssistantRevisionReconciler:
    """Says of each revision whether it may be served, and numbers it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbering: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def reconcile(self, key: Key) -> float | None:
        """One pass; see `Reconciler`."""
        obj = self._world.cache.get(*key)
        if obj is None:
            return None
        if (obj.get("status") or {}).get("ordinal") is not None:
            return await self._pass(obj)
        # Numbers of one assistant are given one after the other: an older sibling that is seen while the number of a
        # younger one is still being written would get the same.
        turn = self._numbering.setdefault((key.namespace, obj["spec"].get("assistant", "")), asyncio.Lock())
        async with turn:
            obj = self._world.cache.get(*key)
            return await self._pass(obj) if obj is not None else None

    async def _pass(self, obj: Object) -> float | None:
        world = self._world
        namespace, name = obj["metadata"]["namespace"], obj["spec"].get("assistant", "")
        assistant = world.assistant(namespace, name)
        observed = ObservedRevision(
            revision=obj,
            siblings=tuple(world.cache.by_index("AssistantRevision", BY_ASSISTANT, f"{namespace}/{name}")),
            floor=(assistant.status.latest_ordinal or 0) if assistant is not None else 0,
        )
        plan = decide_revision(observed, world.now())
        return (await world.actor.act(plan, obj)).requeue_after
