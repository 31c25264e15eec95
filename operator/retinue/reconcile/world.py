"""What every reconciler stands in: the cache, the client, the actor, the platform file, the clock."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from retinue.domain.conditions import Problem, merge
from retinue.domain.plan import Plan
from retinue.domain.transitions import events_of
from retinue.kube import errors
from retinue.kube.cache import Cache
from retinue.kube.client import KubeClient, Object
from retinue.kube.resources import NAMESPACE
from retinue.reconcile.act import Actor, Refusal
from retinue.resources.conditions import BaseStatus
from retinue.resources.meta import LABEL_MODEL_SERVER, READY, RECONCILING, STALLED
from retinue.resources.platform import PlatformConfig
from retinue.resources.reasons import REFUSED
from retinue.resources.v1alpha1.assistant import Assistant
from retinue.resources.v1alpha1.assistanttemplate import AssistantTemplate
from retinue.resources.v1alpha1.modelserver import ModelServer

BY_ASSISTANT = "assistant"
"""Index: `<namespace>/<assistant>` of deployments and revisions."""
BY_SERVER = "server"
"""Index: name of the ModelServer that a deployment uses, or that a child belongs to."""
BY_TEMPLATE = "template"
"""Index: `<namespace>/<template>` of Assistants."""
CHILDREN = ("StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy")
REFUSED_SECONDS = 60.0
"""Seconds until a write that the API server refused is tried again."""


def utc_now() -> datetime:
    """The wall clock; the only one that reconcilers read."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class World:
    """Made once by the composition root."""

    client: KubeClient
    cache: Cache
    actor: Actor
    platform: PlatformConfig
    now: Callable[[], datetime] = field(default=utc_now)

    def assistant(self, namespace: str, name: str) -> Assistant | None:
        """The Assistant as last seen."""
        found = self.cache.get("Assistant", namespace, name)
        return Assistant.from_object(found) if found is not None else None

    def template(self, namespace: str, name: str) -> AssistantTemplate | None:
        """The AssistantTemplate as last seen."""
        found = self.cache.get("AssistantTemplate", namespace, name)
        return AssistantTemplate.from_object(found) if found is not None else None

    def servers(self, names: Iterable[str | None]) -> dict[str, ModelServer]:
        """Those of the ModelServers that exist, as last seen."""
        found: dict[str, ModelServer] = {}
        for name in names:
            obj = self.cache.get("ModelServer", self.platform.models_namespace, name) if name else None
            if name and obj is not None:
                found[name] = ModelServer.from_object(obj)
        return found

    async def namespace(self, name: str) -> Object | None:
        """The namespace; read live where the cache has not seen it, because its labels decide on everything."""
        found = self.cache.get("Namespace", "", name)
        if found is not None:
            return found
        try:
            return await self.client.get(NAMESPACE, name)
        except errors.NotFound:
            return None


def add_indexes(cache: Cache) -> None:
    """Makes the lookups of the reconcilers and of `wake` possible. Call once, before the cache is fed."""

    def of_assistant(obj: Object) -> Iterable[str]:
        yield f"{obj['metadata']['namespace']}/{obj['spec'].get('assistant', '')}"

    def of_server(obj: Object) -> Iterable[str]:
        yield from servers_of(obj)

    def of_template(obj: Object) -> Iterable[str]:
        name = (obj["spec"].get("templateRef") or {}).get("name")
        if name:
            yield f"{obj['metadata']['namespace']}/{name}"

    def of_label(obj: Object) -> Iterable[str]:
        name = (obj["metadata"].get("labels") or {}).get(LABEL_MODEL_SERVER)
        if name:
            yield name

    cache.add_index("AssistantDeployment", BY_ASSISTANT, of_assistant)
    cache.add_index("AssistantRevision", BY_ASSISTANT, of_assistant)
    cache.add_index("AssistantDeployment", BY_SERVER, of_server)
    cache.add_index("Assistant", BY_TEMPLATE, of_template)
    cache.add_index("Pod", BY_SERVER, of_label)


def servers_of(deployment: Object | None) -> set[str]:
    """Names of the ModelServers that a deployment's status names: the bound one and the candidate's."""
    status: dict[str, Any] = (deployment or {}).get("status") or {}
    names = {status.get("modelServer"), (status.get("candidate") or {}).get("modelServer")}
    return {name for name in names if name}


def refused(observed: Object, refusal: Refusal, now: datetime, decided: Plan | None = None) -> Plan:
    """The plan after the API server refused a child: a condition says why, everything else stays as it was.

    `decided`: the plan whose child it was, where the rest of its status is true all the same (a ModelServer's users
    and pods, and since when nobody needs it: or a server whose children are refused would never go).
    """
    before = BaseStatus.model_validate(observed.get("status") or {})
    rest = (decided.status if decided is not None else None) or observed.get("status") or {}
    generation = int(observed["metadata"].get("generation", 0))
    findings = Problem(
        f"{refusal.key.kind}{REFUSED}",
        f"the API server refuses {refusal.key} ({refusal.reason}): {refusal.message}; "
        "remove the cause (rights, admission rules, quota), it is tried again every minute",
    ).findings()
    main = merge(before.conditions, findings, generation, now)
    side = tuple(c for c in BaseStatus.model_validate(rest).conditions if c.type not in (READY, RECONCILING, STALLED))
    conditions = sorted((*main, *side), key=lambda c: c.type)
    status = {
        **rest,
        "observedGeneration": generation,
        "conditions": [c.to_object() for c in conditions],
    }
    looks = [REFUSED_SECONDS]
    if rest.get("unusedSince") and decided is not None and decided.requeue_after is not None:
        looks.append(decided.requeue_after)
    return Plan(status=status, events=events_of(before.conditions, findings), requeue_after=min(looks))
