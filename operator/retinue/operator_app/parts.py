"""Makes the parts of the operator and joins them: the only place that knows all of them."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp

from retinue.kube.aio import AioKubeClient
from retinue.kube.cache import Cache, Key
from retinue.kube.listwatch import ListWatch
from retinue.kube.namedpoll import NamedPoll
from retinue.kube.resources import (
    ASSISTANT,
    ASSISTANT_DEPLOYMENT,
    ASSISTANT_REVISION,
    ASSISTANT_TEMPLATE,
    MODEL_SERVER,
    NAMESPACE,
    NETWORK_POLICY,
    POD,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    STATEFUL_SET,
)
from retinue.observability.metrics import OBJECTS, RELIST_AGE, WATCH_RESTARTS, Metrics, WorkMetrics
from retinue.operator_app.agents import RotatingAgents
from retinue.operator_app.history import Rows
from retinue.operator_app.settings import OperatorSettings
from retinue.outbound.model_registry import ModelRegistries
from retinue.reconcile.act import Actor
from retinue.reconcile.assistant import AssistantReconciler
from retinue.reconcile.assistant_deployment import AssistantDeploymentReconciler
from retinue.reconcile.assistant_revision import AssistantRevisionReconciler
from retinue.reconcile.assistant_template import AssistantTemplateReconciler
from retinue.reconcile.health import HealthProber
from retinue.reconcile.loop import Reconciler, Workers
from retinue.reconcile.model_server import ModelServerReconciler
from retinue.reconcile.queue import Queue
from retinue.reconcile.recorder import Recorder
from retinue.reconcile.relist import Relist, Source
from retinue.reconcile.wake import RECONCILED, wakes
from retinue.reconcile.world import World, add_indexes
from retinue.resources.meta import LABEL_MANAGED_BY, MANAGED_BY
from retinue.resources.platform import PlatformConfig
from retinue.watch.thread import WatchThread

TENANT_KINDS = (ASSISTANT, ASSISTANT_TEMPLATE, ASSISTANT_REVISION, ASSISTANT_DEPLOYMENT)
"""Watched by kopf, in all namespaces or in the listed ones."""
CHILD_KINDS = (STATEFUL_SET, POD, SERVICE, POD_DISRUPTION_BUDGET, NETWORK_POLICY)
"""Watched in the models namespace only: there alone the operator has rights on workloads."""
OURS = f"{LABEL_MANAGED_BY}={MANAGED_BY}"


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that runs, joined and not yet running."""

    cache: Cache
    queue: Queue
    relist: Relist
    workers: Workers
    prober: HealthProber
    watch: WatchThread
    list_watches: tuple[ListWatch, ...]
    polls: tuple[NamedPoll, ...] = ()

    def feeders(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        """What brings events; runs on standby too, so that the cache is warm."""
        feeding = {f"list-watch-{number}": one.run() for number, one in enumerate(self.list_watches)}
        feeding |= {f"poll-{number}": one.run() for number, one in enumerate(self.polls)}
        return {"watch": self.watch.run(), **feeding}


def build(
    client: AioKubeClient,
    platform: PlatformConfig,
    settings: OperatorSettings,
    *,
    session: aiohttp.ClientSession,
    registries: ModelRegistries,
    rows: Rows,
    metrics: Metrics,
    instance: str,
    may_write: Callable[[], bool] = lambda: True,
) -> Parts:
    """Joins the parts. Nothing runs yet and nothing is read or written.

    `may_write` is asked before each write: a process frozen past its Lease must not send what it had decided.
    """
    cache = Cache()
    add_indexes(cache)
    work = WorkMetrics(metrics)
    queue = Queue(metrics=work)
    actor = Actor(client, cache, Recorder(client, instance=instance), may_write=may_write)
    world = World(client, cache, actor, platform)
    prober = HealthProber(
        cache=cache,
        platform=lambda: platform,
        agents=RotatingAgents(session, settings.credential_file),
        session=session,
        rows=rows,
        on_change=lambda namespace, name: queue.add(Key("ModelServer", namespace, name)),
    )
    reconcilers: dict[str, Reconciler] = {
        "Assistant": AssistantReconciler(world, registries),
        "AssistantTemplate": AssistantTemplateReconciler(world),
        "AssistantRevision": AssistantRevisionReconciler(world),
        "AssistantDeployment": AssistantDeploymentReconciler(world),
        "ModelServer": ModelServerReconciler(world, prober.newest),
    }
    relist = Relist(client, cache, queue, sources(platform), reconciled=RECONCILED, seconds=platform.relist_seconds)
    restarts = metrics.counter(WATCH_RESTARTS)
    watch = WatchThread(client, cache, TENANT_KINDS, namespaces=platform.namespaces, on_restart=lambda: restarts.inc())
    _wake_on_changes(cache, queue, platform.models_namespace)
    _show(metrics, cache, relist)
    return Parts(
        cache=cache,
        queue=queue,
        relist=relist,
        workers=Workers(queue, reconcilers, count=settings.workers, metrics=work),
        prober=prober,
        watch=watch,
        list_watches=_list_watches(client, cache, platform),
        polls=_polls(client, cache, platform),
    )


def sources(platform: PlatformConfig) -> tuple[Source, ...]:
    """What a relist lists: everything that is watched, whoever watches it."""
    tenants: tuple[str | None, ...] = tuple(platform.namespaces) or (None,)
    models = (platform.models_namespace,)
    return (
        Source(NAMESPACE, tenants, spare_refused=True),
        *(Source(kind, tenants, spare_refused=True) for kind in TENANT_KINDS),
        Source(MODEL_SERVER, models),
        *(Source(kind, models, OURS) for kind in CHILD_KINDS),
    )


def _list_watches(client: AioKubeClient, cache: Cache, platform: PlatformConfig) -> tuple[ListWatch, ...]:
    """What kopf does not watch: a cluster-wide watch of these kinds would need rights that nobody should give."""
    models = platform.models_namespace
    found = [
        ListWatch(client, cache, MODEL_SERVER, models),
        *(ListWatch(client, cache, kind, models, label_selector=OURS) for kind in CHILD_KINDS),
    ]
    if not platform.namespaces:
        found.append(ListWatch(client, cache, NAMESPACE))
    return tuple(found)


def _polls(client: AioKubeClient, cache: Cache, platform: PlatformConfig) -> tuple[NamedPoll, ...]:
    """Listed namespaces are read by name: a Role gives `get` on one, and no more."""
    if not platform.namespaces:
        return ()
    return (NamedPoll(client, cache, NAMESPACE, platform.namespaces),)


def _wake_on_changes(cache: Cache, queue: Queue, models_namespace: str) -> None:
    def wake(change: Any) -> None:
        for key in wakes(cache, models_namespace, change):
            queue.add(key)

    cache.subscribe(wake)


def _show(metrics: Metrics, cache: Cache, relist: Relist) -> None:
    metrics.gauge(RELIST_AGE, lambda: -1.0 if relist.age is None else relist.age)
    held = metrics.gauge(OBJECTS)
    for kind in (*TENANT_KINDS, MODEL_SERVER, *CHILD_KINDS, NAMESPACE):
        held.labels(kind.kind).set_function(partial(cache.count, kind.kind))
