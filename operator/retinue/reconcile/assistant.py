"""Assistant: gather template, ConfigMaps and revisions; ask the registry once per generation; decide; act."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from retinue.domain.assistant_decision import ObservedAssistant, decide_assistant, lookup_needed
from retinue.domain.conditions import Problem
from retinue.domain.revision import needed_config_maps
from retinue.kube import errors
from retinue.kube.cache import Key
from retinue.kube.client import Object
from retinue.kube.listwatch import list_all
from retinue.kube.resources import ASSISTANT_DEPLOYMENT, CONFIG_MAP
from retinue.outbound.model_registry import Digests, RegistryError
from retinue.reconcile.world import BY_ASSISTANT, World, refused
from retinue.resources.reasons import MODEL_NOT_RESOLVED, MODEL_UNKNOWN, REGISTRY_DENIED
from retinue.resources.v1alpha1.assistant import Assistant, Lifecycle
from retinue.resources.v1alpha1.assistanttemplate import AssistantTemplate

_GIVE: Final = "or set spec.model.digest, then no registry is asked"
_ACTIONS: Final = {
    MODEL_UNKNOWN: "correct spec.model.name, or push the model",
    REGISTRY_DENIED: "check credentialsSecret of the registry in the chart's modelRegistries",
}


class AssistantReconciler:
    """Makes the revision of each Active Assistant's content."""

    def __init__(self, world: World, digests: Digests) -> None:
        self._world = world
        self._digests = digests

    async def reconcile(self, key: Key) -> float | None:
        """One pass; see `Reconciler`."""
        world = self._world
        obj = world.cache.get(*key)
        if obj is None:
            return None
        observed = await self._gather(obj)
        now = world.now()
        plan = decide_assistant(observed, now)
        if plan.delete:
            # What is collected is lost for ever, and a watch may be minutes behind: who names a revision is read live.
            deployments, _ = await list_all(world.client, ASSISTANT_DEPLOYMENT, key.namespace)
            plan = decide_assistant(replace(observed, referenced=observed.referenced | referenced(deployments)), now)
        # A refused collection leaves the rest of the decision true: it must not keep a new revision from being named.
        collected = {Key(delete.kind, delete.namespace, delete.name) for delete in plan.delete}
        result = await world.actor.act(
            plan, obj, lambda refusal: refused(obj, refusal, world.now(), plan if refusal.key in collected else None)
        )
        return result.requeue_after

    async def _gather(self, obj: Object) -> ObservedAssistant:
        world = self._world
        assistant = Assistant.from_object(obj)
        reference = assistant.spec.template_ref
        template = world.template(assistant.namespace, reference.name) if reference is not None else None
        observed = ObservedAssistant(
            assistant=assistant,
            platform=world.platform,
            template=template,
            config_maps=await self._config_maps(assistant, template),
            revisions=tuple(
                world.cache.by_index("AssistantRevision", BY_ASSISTANT, f"{assistant.namespace}/{assistant.name}")
            ),
            referenced=referenced(world.cache.list("AssistantDeployment", assistant.namespace)),
        )
        name = lookup_needed(observed)
        return observed if name is None else replace(observed, found=await self._look_up(name))

    async def _config_maps(self, assistant: Assistant, template: AssistantTemplate | None) -> dict[str, dict[str, str]]:
        """The ConfigMaps that the content names, read live: the operator watches none."""
        if assistant.deleting or assistant.spec.lifecycle is not Lifecycle.ACTIVE:
            return {}
        found: dict[str, dict[str, str]] = {}
        for name in needed_config_maps(assistant.spec, template):
            try:
                found[name] = (await self._world.client.get(CONFIG_MAP, name, assistant.namespace)).get("data") or {}
            except errors.NotFound:
                continue
        return found

    async def _look_up(self, name: str) -> str | Problem:
        try:
            return await self._digests.digest(name)
        except RegistryError as error:
            reason = MODEL_UNKNOWN if error.reason == MODEL_UNKNOWN else MODEL_NOT_RESOLVED
            action = _ACTIONS.get(error.reason, "check modelRegistries of the chart and the network")
            return Problem(reason, f"spec.model.name: {error}; {action}, {_GIVE}")


def referenced(deployments: Iterable[Object]) -> frozenset[str]:
    """Every revision that one of the deployments names, anywhere."""
    names: set[str] = set()
    for deployment in deployments:
        status = deployment.get("status") or {}
        names.add((deployment["spec"].get("source") or {}).get("revision") or "")
        names.update(status.get(field) or "" for field in ("desiredRevision", "activeRevision"))
        names.add((status.get("candidate") or {}).get("revision") or "")
        for entry in status.get("history") or []:
            names.update((entry.get("revision") or "", entry.get("from") or ""))
    return frozenset(names - {""})
