"""Which objects must be looked at again when an object changes: the only place that knows who depends on whom."""

from collections.abc import Iterator

from retinue.kube.cache import Cache, Change, Key
from retinue.kube.client import Object
from retinue.reconcile.world import BY_ASSISTANT, BY_SERVER, BY_TEMPLATE, CHILDREN, servers_of
from retinue.resources.meta import LABEL_MODEL_SERVER

RECONCILED = ("Assistant", "AssistantTemplate", "AssistantRevision", "AssistantDeployment", "ModelServer")
"""Kinds with a reconciler of their own."""


def wakes(cache: Cache, models_namespace: str, change: Change) -> set[Key]:
    """Keys to enqueue for one change; the object's own key is among them if its kind is reconciled."""
    return set(_wakes(cache, models_namespace, change))


def _wakes(cache: Cache, models_namespace: str, change: Change) -> Iterator[Key]:
    key, seen = change.key, change.new or change.old
    if key.kind in RECONCILED and change.new is not None:
        yield key
    if seen is None:
        return
    match key.kind:
        case "Assistant":
            yield from _of_assistant(cache, models_namespace, f"{key.namespace}/{key.name}")
        case "AssistantTemplate":
            yield from _keys(cache.by_index("Assistant", BY_TEMPLATE, f"{key.namespace}/{key.name}"))
        case "AssistantRevision":
            assistant = seen["spec"].get("assistant", "")
            yield Key("Assistant", key.namespace, assistant)
            yield from _keys(cache.by_index("AssistantDeployment", BY_ASSISTANT, f"{key.namespace}/{assistant}"))
        case "AssistantDeployment":
            # Both sides: a server that the deployment has left must learn that it has one user less.
            for name in servers_of(change.old) | servers_of(change.new):
                yield Key("ModelServer", models_namespace, name)
        case "ModelServer":
            yield from _keys(cache.by_index("AssistantDeployment", BY_SERVER, key.name))
        case "Namespace":
            yield from _keys(cache.list("AssistantDeployment", key.name))
        case kind if kind == "Pod" or kind in CHILDREN:
            label = (seen["metadata"].get("labels") or {}).get(LABEL_MODEL_SERVER)
            # A child is named like its server, so it is found even if somebody took its label away.
            yield Key("ModelServer", models_namespace, label or key.name)
        case _:
            return


def _of_assistant(cache: Cache, models_namespace: str, assistant: str) -> Iterator[Key]:
    """Deployments that follow `latest`, and the servers behind them: a lifecycle decides on their demand."""
    for deployment in cache.by_index("AssistantDeployment", BY_ASSISTANT, assistant):
        if (deployment["spec"].get("source") or {}).get("latest") is None:
            continue
        yield from _keys([deployment])
        for name in servers_of(deployment):
            yield Key("ModelServer", models_namespace, name)


def _keys(objects: list[Object]) -> Iterator[Key]:
    for obj in objects:
        yield Key(obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
