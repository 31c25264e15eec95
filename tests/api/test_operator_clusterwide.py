"""The operator for a whole cluster, one of its own: namespaces come and get their labels while it runs."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from builders import make_assistant, make_deployment
from operator_rig import OperatorRig, platform_of
from testbed.cluster import Cluster

pytestmark = pytest.mark.api


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A control plane without CRDs at first, which no other operator works on."""
    made = Cluster.up_control_plane(f"pytest-{os.getpid()}-wide", owned=True)
    try:
        yield made
    finally:
        made.down()


@pytest.fixture
async def rig(cluster: Cluster, tmp_path: Path) -> AsyncIterator[OperatorRig]:
    name = f"wide-{secrets.token_hex(3)}"
    made = OperatorRig(cluster, name, tmp_path, platform_of(name, namespaces=[]))
    made.environment = {"RETINUE_OPERATOR_CRD_SECONDS": "1"}
    async with made as running:
        yield running


async def test_without_the_crds_it_ends_and_says_how_to_get_them(rig: OperatorRig) -> None:
    assert await rig.ended() == 1
    assert "install the chart, or apply the files in crds/" in rig.tail()


async def test_a_namespace_that_comes_later_and_is_labelled_later_is_served(rig: OperatorRig, cluster: Cluster) -> None:
    cluster.apply_crds()
    await rig.stop()
    await rig.start()
    cluster.kubectl("create", "namespace", rig.namespace)
    await rig.apply(make_assistant())
    await rig.apply(make_deployment())
    await rig.until_condition("AssistantDeployment", "support-bot", "Stalled", "EnvironmentUnknown")
    cluster.kubectl("label", "namespace", rig.namespace, "retinue.dev/environment=testing", "retinue.dev/team=shop")
    obj = await rig.until("AssistantDeployment", "support-bot", lambda o: "candidate" in o["status"])
    assert obj["status"]["environment"] == "testing"
    server = await rig.get("ModelServer", obj["status"]["candidate"]["modelServer"])
    assert server["spec"]["pool"] == "shop/testing"
