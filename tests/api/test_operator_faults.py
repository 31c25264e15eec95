"""The operator killed at a write, and the API server answering badly: the end state is always the same."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest

from builders import make_assistant, make_deployment
from operator_rig import OperatorRig, conditions, eventually, platform_of
from testbed.cluster import Cluster
from testbed.faultproxy_faults import Cut, Fault, Kill, LostReply, Refuse, Twice
from testbed.faultproxy_kube import KubeFaultProxy
from testbed.model_registry import ModelRegistry
from testbed.ollama_server import OllamaServer

pytestmark = pytest.mark.api

Object = dict[str, Any]
MODEL = "smollm2:135m"
LISTED = "everything is listed, working"
KINDS = (
    *("Assistant", "AssistantRevision", "AssistantDeployment", "ModelServer"),
    *("StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy"),
)
VOLATILE = frozenset(
    {
        *("lastTransitionTime", "since", "startedAt", "deadlineAt", "at", "unusedSince", "message"),
        *("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "observedGeneration"),
    }
)


@pytest.fixture(scope="module")
def digest() -> str:
    """The digest of the test model, as a registry tells it."""
    with ModelRegistry() as registry:
        return registry.digest(MODEL)


@pytest.fixture
async def rig(
    control_plane: Cluster, fault_proxy: KubeFaultProxy, namespace: str, ollama: OllamaServer, tmp_path: Path
) -> AsyncIterator[OperatorRig]:
    """An operator behind the fault proxy, alone, so that no Lease of a killed one has to run out."""
    made = OperatorRig(control_plane, namespace, tmp_path, platform_of(namespace, ollama))
    made.kubeconfig = str(fault_proxy.kubeconfig)
    made.environment = {"RETINUE_OPERATOR_LEASE": "false"}
    async with made as running:
        yield running


async def author(rig: OperatorRig, digest: str) -> None:
    """What a person does: one assistant, one deployment outside of the cluster, one with pods."""
    await rig.apply(make_assistant(spec={"model": {"name": MODEL, "digest": digest}}))
    await rig.apply(make_deployment(spec={"runtime": {"externalServer": "local"}}))
    await rig.apply(make_deployment("with-pods"))


async def arrived(rig: OperatorRig) -> None:
    """Waits for the end state: the first deployment serves, the second waits for a node."""
    await rig.until_condition("AssistantDeployment", "support-bot", "Ready", "Serving")
    await rig.until_condition("AssistantDeployment", "with-pods", "Reconciling", "Unschedulable")
    await rig.until("Assistant", "support-bot", lambda o: o["status"].get("latestOrdinal") == 1)

    async def counted() -> bool:
        return all(o["status"].get("userCount") == 1 for o in await rig.all("ModelServer"))

    await eventually(counted, rig.tail)


async def picture(rig: OperatorRig) -> Object:
    """Everything that the operator made, without times and identities."""
    seen: Object = {}
    for kind in KINDS:
        for obj in await rig.all(kind):
            text = json.dumps(_still(obj), sort_keys=True).replace(rig.namespace, "NAMESPACE")
            seen[f"{kind}/{obj['metadata']['name']}"] = json.loads(text)
    return seen


def _still(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _still(v) for k, v in value.items() if k not in VOLATILE}
    return [_still(v) for v in value] if isinstance(value, list) else value


EXPECTED = {
    "Assistant": 1,
    "AssistantRevision": 1,
    "AssistantDeployment": 2,
    "ModelServer": 2,
    "StatefulSet": 1,
    "Service": 1,
    "PodDisruptionBudget": 1,
    "NetworkPolicy": 1,
}


async def check(rig: OperatorRig) -> None:
    """The end state is there, complete, and the same as that of an undisturbed operator."""
    await arrived(rig)
    seen = await picture(rig)
    counts = {kind: sum(name.startswith(f"{kind}/") for name in seen) for kind in EXPECTED}
    assert counts == EXPECTED
    for name, obj in seen.items():
        if name.startswith("AssistantRevision/"):
            assert obj["status"]["ordinal"] == 1
        if name.startswith("ModelServer/"):
            assert obj["status"]["userCount"] == 1
    deployment = await rig.get("AssistantDeployment", "support-bot")
    assert [h["revision"] for h in deployment["status"]["history"]] == [deployment["status"]["activeRevision"]]
    assert "candidate" not in deployment["status"]
    assert conditions(deployment)["Available"]["status"] == "True"
    # Whatever went wrong before: now nothing is written any more.
    before = await settled(rig)
    starts = rig.log.read_text().count(LISTED)
    await rig.stop()
    await rig.start()

    async def listed() -> bool:
        return rig.log.read_text().count(LISTED) > starts

    await eventually(listed, rig.tail)
    await asyncio.sleep(2)
    assert await rig.versions() == before


async def settled(rig: OperatorRig) -> dict[str, str]:
    """Waits until two looks, a second apart, see the same versions."""
    before: dict[str, str] = {}

    async def same() -> bool:
        nonlocal before
        seen = await rig.versions()
        quiet, before = seen == before, seen
        await asyncio.sleep(1)
        return quiet

    await eventually(same, rig.tail)
    return before


WRITES = 14
"""Writes of the undisturbed run, and one more."""
IN_CI = (2, 6, 13)
"""Writes at which CI kills: the revision, a child, a late status. The long group kills at all of them."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "nth", [n if n in IN_CI else pytest.param(n, marks=pytest.mark.long) for n in range(1, WRITES + 1)]
)
async def test_killed_at_a_write_it_ends_where_it_would_have_ended(
    rig: OperatorRig, fault_proxy: KubeFaultProxy, digest: str, nth: int, when: Literal["before", "after"]
) -> None:
    injected = fault_proxy.inject(Kill(rig.strike, when), verb="write", nth=nth)
    await author(rig, digest)
    assert await injected.happened(60), rig.tail()
    await rig.kill()
    await rig.start()
    await check(rig)


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        (LostReply(), None),
        (Twice(), None),
        (Cut(), 4),
        (Refuse(409), 4),
        (Refuse(429, retry_after=1), 4),
        (Refuse(500), 4),
        (Refuse(503), 4),
        (Refuse(403), 4),
    ],
    ids=lambda value: str(value) if isinstance(value, Fault) else "",
)
async def test_bad_answers_to_writes_change_nothing_in_the_end(
    rig: OperatorRig, fault_proxy: KubeFaultProxy, digest: str, fault: Fault, times: int | None
) -> None:
    for resource in ("assistantrevisions", "modelservers", "statefulsets", "assistantdeployments/status"):
        fault_proxy.inject(fault, verb="patch", resource=resource, times=None if times is None else 1)
    await author(rig, digest)
    await arrived(rig)
    fault_proxy.clear()
    await check(rig)


async def test_an_api_server_that_is_away_for_a_while_is_waited_for(
    rig: OperatorRig, fault_proxy: KubeFaultProxy, digest: str
) -> None:
    await author(rig, digest)
    await arrived(rig)
    fault_proxy.down()
    await rig.apply(
        make_assistant(
            spec={"model": {"name": MODEL, "digest": digest}, "systemPrompt": {"inline": "While you were away."}}
        )
    )
    await asyncio.sleep(3)
    status, _ = await rig.probe("/healthz")
    assert status == 200
    fault_proxy.up()
    await rig.until("Assistant", "support-bot", lambda o: o["status"].get("latestOrdinal") == 2)
