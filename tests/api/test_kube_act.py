"""The act step on the real API server: writes what differs, nothing else, and survives what others do."""

import copy
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from builders import make_assistant, make_model_server, make_revision
from real_client import Watched, client_of, config_map, manifest
from retinue.domain.desired.networkpolicy import build_network_policy
from retinue.domain.desired.poddisruptionbudget import build_pod_disruption_budget
from retinue.domain.desired.service import build_service
from retinue.domain.desired.statefulset import build_stateful_set
from retinue.domain.plan import Delete, Event, Plan
from retinue.kube import errors
from retinue.kube.cache import Cache, Key
from retinue.kube.client import Object
from retinue.kube.listwatch import list_all
from retinue.kube.resources import ASSISTANT, BY_KIND, CONFIG_MAP, EVENT, MODEL_SERVER, STATEFUL_SET
from retinue.reconcile.act import Actor
from retinue.reconcile.recorder import BURST, Recorder
from retinue.reconcile.same import already_applied
from retinue.resources.platform import PlatformConfig
from retinue.resources.v1alpha1.modelserver import ModelServer
from testbed.cluster import Cluster

pytestmark = pytest.mark.api

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
PLATFORM = PlatformConfig.model_validate(
    {
        "agentImage": "retinue:0.1.0",
        "defaultProfile": "small-cpu",
        "profiles": [
            {
                "name": "small-cpu",
                "image": "ollama/ollama:0.24.0",
                "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"cpu": 2, "memory": "3Gi"}},
                "nodeSelector": {"gpu": "yes"},
                "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
                "storage": {"ephemeral": False, "size": "1024Mi"},
                "numThread": 4,
            }
        ],
        "modelRegistries": [{"host": "registry.ollama.ai", "default": True}],
    }
)


class Stage:
    """A client that counts, a cache that is fed by hand, an actor."""

    def __init__(self, client: Watched, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.cache = Cache()
        self.now = NOW
        self.may_write = True
        recorder = Recorder(client, now=lambda: self.now)
        self.actor = Actor(client, self.cache, recorder, may_write=lambda: self.may_write, now=lambda: self.now)

    async def see(self, *kinds: str) -> None:
        """What the watches do: the cache learns how things are."""
        for kind in kinds:
            objects, version = await list_all(self.client, BY_KIND[kind], self.namespace)
            self.cache.replace_all(kind, self.namespace, objects, version)

    def seen(self, kind: str, name: str) -> Object:
        found = self.cache.get(kind, self.namespace, name)
        assert found is not None
        return found


@pytest_asyncio.fixture
async def stage(control_plane: Cluster, namespace: str) -> AsyncIterator[Stage]:
    async with client_of(control_plane) as client:
        yield Stage(Watched(client), namespace)


async def children(stage: Stage) -> list[Object]:
    """Every kind of object that the operator applies, as the real builders make them."""
    made = await stage.client.apply(MODEL_SERVER, manifest(make_model_server(namespace=stage.namespace)))
    server = ModelServer.from_object(made)
    built = [
        build_service(server),
        build_pod_disruption_budget(server),
        build_network_policy(server, PLATFORM),
        build_stateful_set(server, PLATFORM.profiles[0], PLATFORM, 0, None),
    ]
    mine = manifest(make_model_server(namespace=stage.namespace))
    revision = manifest(make_revision(namespace=stage.namespace))
    return [mine, revision, *(child for child in built if child is not None)]


async def test_what_was_applied_is_not_applied_again(stage: Stage) -> None:
    wanted = await children(stage)
    first = await stage.actor.children(Plan(apply=tuple(wanted)))
    assert len(first.applied) == len(wanted) - 1, "the ModelServer was there already"
    kinds = [o["kind"] for o in wanted]
    for round_ in range(2):
        stage.client.calls.clear()
        again = await stage.actor.children(Plan(apply=tuple(wanted)))
        assert (again.applied, stage.client.calls) == ((), []), f"round {round_}"
        stage.cache = Cache()
        stage.actor._cache = stage.cache
        await stage.see(*kinds)


def _leaves(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(node, dict):
        return [leaf for key, value in node.items() for leaf in _leaves(value, (*path, key))] or [path]
    if isinstance(node, list):
        return [leaf for i, value in enumerate(node) for leaf in _leaves(value, (*path, i))] or [path]
    return [path]


def _changed(obj: Object, path: tuple[Any, ...], new: Any) -> Object:
    bent = copy.deepcopy(obj)
    node: Any = bent
    for step in path[:-1]:
        node = node[step]
    if new is None:
        del node[path[-1]]
    else:
        node[path[-1]] = new
    return bent


async def test_every_change_of_a_wanted_value_is_seen(stage: Stage) -> None:
    wanted = await children(stage)
    await stage.actor.children(Plan(apply=tuple(wanted)))
    missed: list[tuple[str, Any, str]] = []
    for obj in wanted:
        live = stage.seen(obj["kind"], obj["metadata"]["name"])
        assert already_applied(obj, live), obj["kind"]
        for path in _leaves(obj):
            if path[0] in ("apiVersion", "kind") or path[:2] in (("metadata", "name"), ("metadata", "namespace")):
                continue
            missed += [
                (obj["kind"], path, "removed" if new is None else "changed")
                for new in ("changed", None)
                if already_applied(_changed(obj, path, new), live)
            ]
    # To leave out what the server fills in with the same value is no change.
    defaults = {"protocol", "apiVersion"}
    assert [m for m in missed if not (m[2] == "removed" and m[1][-1] in defaults)] == []


FOREIGN_EDITS = {
    "a value is changed": {"spec": {"podManagementPolicy": None, "replicas": 7}},
    "a label is changed": {"metadata": {"labels": {"retinue.dev/model-server": "else"}}},
    "a label is removed": {"metadata": {"labels": {"retinue.dev/model-server": None}}},
    "a selector is put on the pods": {"spec": {"template": {"spec": {"nodeSelector": {"gpu": "no"}}}}},
    "tolerations are replaced": {"spec": {"template": {"spec": {"tolerations": []}}}},
}


@pytest.mark.parametrize("edit", FOREIGN_EDITS.values(), ids=FOREIGN_EDITS.keys())
async def test_drift_is_repaired(stage: Stage, control_plane: Cluster, edit: Object) -> None:
    wanted = (await children(stage))[-1]
    assert wanted["kind"] == "StatefulSet"
    name = wanted["metadata"]["name"]
    await stage.actor.children(Plan(apply=(wanted,)))
    if "spec" in edit:
        edit = {**edit, "spec": {k: v for k, v in edit["spec"].items() if v is not None}}
    control_plane.kubectl("-n", stage.namespace, "patch", "statefulset", name, "--type=merge", f"-p={json.dumps(edit)}")
    await stage.see("StatefulSet")
    assert not already_applied(wanted, stage.seen("StatefulSet", name))
    result = await stage.actor.children(Plan(apply=(wanted,)))
    assert [key.kind for key in result.applied] == ["StatefulSet"]
    assert already_applied(wanted, await stage.client.get(STATEFUL_SET, name, stage.namespace))


async def test_what_others_add_is_left_alone(stage: Stage, control_plane: Cluster) -> None:
    wanted = (await children(stage))[-1]
    name = wanted["metadata"]["name"]
    await stage.actor.children(Plan(apply=(wanted,)))
    control_plane.kubectl("-n", stage.namespace, "annotate", "statefulset", name, "team=ours")
    await stage.see("StatefulSet")
    assert (await stage.actor.children(Plan(apply=(wanted,)))).applied == ()


async def test_an_object_that_the_cache_has_not_heard_of_is_read_before_it_is_made(stage: Stage) -> None:
    await stage.client.apply(CONFIG_MAP, config_map(stage.namespace, a="1"))
    stage.client.calls.clear()
    result = await stage.actor.children(Plan(apply=(config_map(stage.namespace, a="1"),)))
    assert result.applied == ()
    assert stage.client.calls == [("get", "ConfigMap")]


async def test_an_apply_on_the_word_of_a_stale_cache_makes_nothing_that_was_deleted(stage: Stage) -> None:
    await stage.actor.children(Plan(apply=(config_map(stage.namespace, a="1"),)))
    await stage.client.delete(CONFIG_MAP, "one", stage.namespace)
    with pytest.raises(errors.Conflict):
        await stage.actor.children(Plan(apply=(config_map(stage.namespace, a="2"),)))
    await stage.see("ConfigMap")
    result = await stage.actor.children(Plan(apply=(config_map(stage.namespace, a="2"),)))
    assert len(result.applied) == 1


async def test_what_is_being_deleted_is_waited_for(stage: Stage, control_plane: Cluster) -> None:
    wanted = config_map(stage.namespace, a="1")
    await stage.client.apply(CONFIG_MAP, {**wanted, "metadata": {**wanted["metadata"], "finalizers": ["a.b/c"]}})
    await stage.client.delete(CONFIG_MAP, "one", stage.namespace)
    with pytest.raises(errors.Conflict, match="is being deleted"):
        await stage.actor.children(Plan(apply=(config_map(stage.namespace, a="2"),)))
    control_plane.kubectl(
        "-n", stage.namespace, "patch", "configmap", "one", "--type=merge", '-p={"metadata":{"finalizers":[]}}'
    )


async def test_a_delete_of_what_is_gone_is_done_and_of_what_changed_is_a_conflict(stage: Stage) -> None:
    made = (await stage.client.apply(CONFIG_MAP, config_map(stage.namespace)))["metadata"]
    stale = Delete("ConfigMap", "one", stage.namespace, made["uid"], made["resourceVersion"])
    changed = (await stage.client.apply(CONFIG_MAP, config_map(stage.namespace, a="1")))["metadata"]
    with pytest.raises(errors.Conflict):
        await stage.actor.children(Plan(delete=(stale,)))
    fresh = Delete("ConfigMap", "one", stage.namespace, changed["uid"], changed["resourceVersion"])
    assert (await stage.actor.children(Plan(delete=(fresh,)))).deleted == (Key("ConfigMap", stage.namespace, "one"),)
    assert (await stage.actor.children(Plan(delete=(fresh,)))).deleted == ()


def status(ready: str, message: str = "working", moment: str = "2026-05-01T12:00:00Z") -> Object:
    condition = {"type": "Ready", "status": ready, "reason": "Because", "message": message, "observedGeneration": 1}
    return {"observedGeneration": 1, "conditions": [{**condition, "lastTransitionTime": moment}]}


async def test_a_status_is_written_once_and_keeps_the_time_of_its_last_transition(stage: Stage) -> None:
    made = await stage.client.apply(ASSISTANT, manifest(make_assistant(namespace=stage.namespace)))
    name = made["metadata"]["name"]
    first = await stage.actor.act(Plan(status=status("Unknown")), made)
    assert first.status_written
    stage.client.calls.clear()
    later = status("Unknown", moment="2026-05-01T13:00:00Z")
    assert not (await stage.actor.act(Plan(status=later), stage.seen("Assistant", name))).status_written
    assert stage.client.calls == [], "the time alone is no difference"
    other_words = status("Unknown", "still working", "2026-05-01T13:00:00Z")
    await stage.actor.act(Plan(status=other_words), stage.seen("Assistant", name))
    times = [c["lastTransitionTime"] for c in stage.seen("Assistant", name)["status"]["conditions"]]
    assert times == ["2026-05-01T12:00:00Z"]
    await stage.actor.act(Plan(status=status("True", moment="2026-05-01T14:00:00Z")), stage.seen("Assistant", name))
    times = [c["lastTransitionTime"] for c in stage.seen("Assistant", name)["status"]["conditions"]]
    assert times == ["2026-05-01T14:00:00Z"]


async def test_a_condition_that_is_no_longer_wanted_goes(stage: Stage) -> None:
    made = await stage.client.apply(ASSISTANT, manifest(make_assistant(namespace=stage.namespace)))
    name = made["metadata"]["name"]
    both = status("Unknown")
    both["conditions"].append({**both["conditions"][0], "type": "Reconciling", "status": "True"})
    await stage.actor.act(Plan(status=both), made)
    await stage.actor.act(Plan(status=status("True")), stage.seen("Assistant", name))
    assert [c["type"] for c in stage.seen("Assistant", name)["status"]["conditions"]] == ["Ready"]


async def test_a_status_decided_on_an_old_version_is_a_conflict_and_tells_no_events(stage: Stage) -> None:
    made = await stage.client.apply(ASSISTANT, manifest(make_assistant(namespace=stage.namespace)))
    await stage.client.apply(ASSISTANT, manifest(make_assistant(namespace=stage.namespace, spec={"tags": ["changed"]})))
    with pytest.raises(errors.Conflict):
        await stage.actor.act(Plan(status=status("True"), events=(Event("Normal", "Ready", "x"),)), made)
    assert await events(stage) == []


async def events(stage: Stage) -> list[tuple[str, str]]:
    objects, _ = await list_all(stage.client, EVENT, stage.namespace)
    ours = [o for o in objects if o.get("reportingComponent") == "retinue-operator"]
    return [(o["reason"], o["message"]) for o in ours]


async def test_an_event_is_told_once_in_its_slot_and_again_later(stage: Stage) -> None:
    made = await stage.client.apply(ASSISTANT, manifest(make_assistant(namespace=stage.namespace)))
    plan = Plan(events=(Event("Warning", "Stalled", "spec.model.name is unknown"),))
    for _ in range(3):
        await stage.actor.act(plan, made)
    assert await events(stage) == [("Stalled", "spec.model.name is unknown")]
    stage.now = datetime(2026, 5, 1, 13, 0, tzinfo=UTC)
    await stage.actor.act(plan, made)
    assert len(await events(stage)) == 2


async def test_events_of_one_object_are_bounded_and_never_fail_a_pass(stage: Stage) -> None:
    made = await stage.client.apply(ASSISTANT, manifest(make_assistant(namespace=stage.namespace)))
    await stage.actor.act(Plan(events=tuple(Event("Normal", "Many", str(n)) for n in range(BURST + 9))), made)
    assert len(await events(stage)) == BURST

    def broken(verb: str, kind: str) -> None:
        raise errors.Unavailable(503, "Unavailable", "down")

    other = await stage.client.apply(ASSISTANT, manifest(make_assistant("other", namespace=stage.namespace)))
    stage.client.spoil = broken
    await stage.actor.act(Plan(events=(Event("Normal", "One", "x"),)), other)


async def test_a_refused_child_ends_the_children_and_the_caller_words_the_status(
    stage: Stage, control_plane: Cluster
) -> None:
    control_plane.kubectl("-n", stage.namespace, "create", "quota", "none", "--hard=count/configmaps=0")
    control_plane.kubectl(
        *("-n", stage.namespace, "wait", "--for=jsonpath={.status.hard.count/configmaps}=0", "resourcequota/none")
    )
    made = await stage.client.apply(ASSISTANT, manifest(make_assistant(namespace=stage.namespace)))
    stage.client.calls.clear()
    wanted = (config_map(stage.namespace, "first"), config_map(stage.namespace, "second"))
    result = await stage.actor.act(
        Plan(apply=wanted, status=status("True"), requeue_after=5),
        made,
        lambda refusal: Plan(status=status("False", refusal.message), requeue_after=60),
    )
    (refusal,) = result.refused
    assert (refusal.key.name, refusal.reason) == ("first", "Forbidden")
    assert "exceeded quota: none" in refusal.message
    assert stage.client.writes == [("apply", "ConfigMap"), ("apply_status", "Assistant")]
    assert result.requeue_after == 60
    with pytest.raises(errors.Forbidden, match="exceeded quota"):
        await stage.actor.act(Plan(apply=wanted), stage.seen("Assistant", made["metadata"]["name"]))


async def test_without_the_lease_nothing_is_written(stage: Stage) -> None:
    made = await stage.client.apply(ASSISTANT, manifest(make_assistant(namespace=stage.namespace)))
    meta = made["metadata"]
    stage.client.calls.clear()
    stage.may_write = False
    plans = [
        Plan(apply=(config_map(stage.namespace),)),
        Plan(delete=(Delete("Assistant", meta["name"], stage.namespace, meta["uid"], meta["resourceVersion"]),)),
        Plan(status=status("True")),
    ]
    for plan in plans:
        with pytest.raises(errors.Unavailable, match="does not hold the Lease"):
            await stage.actor.act(plan, made)
    assert stage.client.writes == []
