"""The operator as a process: how it starts, leads, hands over and stops."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from builders import make_assistant
from operator_rig import OperatorRig, eventually, platform_of
from testbed.cluster import Cluster

pytestmark = pytest.mark.api


@pytest.fixture
async def rig(control_plane: Cluster, namespace: str, tmp_path: Path) -> AsyncIterator[OperatorRig]:
    async with OperatorRig(control_plane, namespace, tmp_path, platform_of(namespace)) as running:
        yield running


async def leading(rig: OperatorRig) -> bool:
    try:
        _, page = await rig.probe("/metrics")
    except OSError:
        return False
    return "retinue_leader 1.0" in page


async def until_leading(rig: OperatorRig) -> None:
    await eventually(lambda: leading(rig), rig.tail)


async def test_it_leads_answers_its_probes_and_stops_cleanly(rig: OperatorRig) -> None:
    await until_leading(rig)

    async def ready() -> bool:
        return await rig.probe("/readyz") == (200, "leading\n")

    await eventually(ready, rig.tail)
    assert await rig.probe("/healthz") == (200, "leading\n")
    assert await rig.stop() == 0
    lease = await rig.get("Lease", "retinue-operator")
    assert lease["spec"]["holderIdentity"] == ""


async def test_the_second_stands_by_and_takes_over_when_the_first_dies(rig: OperatorRig, tmp_path: Path) -> None:
    await until_leading(rig)
    folder = tmp_path / "second"
    folder.mkdir()
    second = OperatorRig(rig.cluster, rig.namespace, folder, rig.platform)
    second.client = rig.client
    await second.start()
    try:

        async def standing_by() -> bool:
            try:
                return await second.probe("/readyz") == (200, "standing by\n")
            except OSError:
                return False

        await eventually(standing_by, second.tail)
        await rig.apply(make_assistant())
        await rig.until_condition("Assistant", "support-bot", "Ready")
        assert await second.writes() == {}
        await rig.kill()
        await until_leading(second)
        await rig.apply(make_assistant(spec={"systemPrompt": {"inline": "Another."}}))
        await rig.until("Assistant", "support-bot", lambda o: o["status"].get("latestOrdinal") == 2)
    finally:
        await second.stop()


async def test_a_missing_platform_file_ends_it_with_words(rig: OperatorRig) -> None:
    await rig.stop()
    rig.platform = {"nonsense": True}
    await rig.start()
    assert await rig.ended() == 1
    assert "is not a platform file" in rig.tail()
    await rig.stop()


async def test_a_cluster_that_cannot_be_found_ends_it_with_words(rig: OperatorRig) -> None:
    await rig.stop()
    rig.kubeconfig = "/nonexistent/kubeconfig"
    await rig.start()
    assert await rig.ended() == 1
    assert "/nonexistent/kubeconfig" in rig.tail()


async def test_logs_hold_no_prompt(rig: OperatorRig) -> None:
    await rig.apply(make_assistant(spec={"systemPrompt": {"inline": "The password is swordfish."}}))
    await rig.until_condition("Assistant", "support-bot", "Ready")
    assert "swordfish" not in rig.log.read_text()
    events = await rig.client.request("GET", f"/api/v1/namespaces/{rig.namespace}/events")
    assert "swordfish" not in str(events)
    author = await rig.get("Assistant", "support-bot")
    assert "swordfish" not in str(author["status"])
