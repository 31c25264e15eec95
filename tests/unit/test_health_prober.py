"""The prober asks every pod in its turn, tells news and only news, and writes the rows that history needs."""

import asyncio
from datetime import timedelta

import pytest

from health_stage import SERVER, StandInAgent, stage
from retinue.domain.records import DeploymentHealth, PodHealth

pytestmark = pytest.mark.unit


async def test_each_pod_is_asked_once_per_period_and_gets_one_row_for_it() -> None:
    async with stage() as s:
        s.add_server()
        agents = [await s.add_pod(n) for n in range(5)]
        await s.after(4)
        assert all(agent.looks in (1, 2) for agent in agents)
        await s.after(56)
        assert all(agent.looks in (4, 5, 6) for agent in agents)
        rows = s.pod_rows()
        assert len(rows) == sum(agent.looks for agent in agents)
        assert len({row.sample_id for row in rows}) == len(rows)
        first = rows[0]
        assert (first.ok, first.phase, first.reason, first.model_server) == (True, "Ready", "", SERVER)
        assert (first.model, first.model_digest, first.namespace) == ("smollm2:135m", "sha256:9", "retinue-models")
        assert s.transitions() == []


async def test_a_restarted_prober_gives_the_same_sample_the_same_name() -> None:
    ids = []
    for _ in range(2):
        async with stage() as s:
            s.add_server()
            await s.add_pod(1)
            await s.after(3)
            ids.append([row.sample_id for row in s.pod_rows()])
    assert ids[0] == ids[1]
    assert len(ids[0]) == 1


async def test_a_pod_that_is_not_ready_is_looked_at_more_often_without_more_rows() -> None:
    async with stage() as s:
        s.add_server()
        agent = await s.add_pod(1)
        agent.said = {"phase": "Loading"}
        await s.after(30)
        assert agent.looks >= 10
        assert len(s.pod_rows()) <= 3
        assert not s.pod_rows()[0].ok
        assert s.pod_rows()[0].reason == "Loading"


async def test_a_change_is_told_to_the_model_server_and_written_as_a_transition() -> None:
    async with stage() as s:
        s.add_server()
        agent = await s.add_pod(1)
        agent.said = {"phase": "Warming"}
        await s.after(4)
        assert s.told == [("retinue-models", SERVER)]
        agent.said = {"phase": "Ready"}
        await s.after(4)
        assert s.told == [("retinue-models", SERVER)] * 2
        [change] = s.transitions()
        assert isinstance(change, PodHealth)
        assert (change.ok, change.phase) == (True, "Ready")
        probe = s.prober.newest(change.pod_uid)
        assert probe is not None
        assert (probe.ok, probe.reachable, probe.reason) == (True, True, "")


async def test_a_pod_that_says_the_same_wakes_nobody() -> None:
    async with stage() as s:
        s.add_server()
        agent = await s.add_pod(1)
        agent.said |= {"inFlight": 1}
        await s.after(120)
        assert agent.looks > 5
        assert len(s.told) == 1


async def test_a_running_pull_is_told_every_five_percent() -> None:
    async with stage() as s:
        s.add_server()
        agent = await s.add_pod(1)
        for completed in range(0, 1001, 10):
            agent.said = {
                "phase": "Pulling",
                "pull": {"completedBytes": completed, "totalBytes": 1000, "startedAt": "2026-03-14T12:00:00Z"},
            }
            await s.after(2)
        assert 15 <= len(s.told) <= 21
        assert s.transitions() == []


async def test_a_silent_agent_is_unreachable_and_its_return_is_news() -> None:
    async with stage() as s:
        s.add_server()
        agent = await s.add_pod(1)
        await s.after(3)
        real, agent.url = agent.url, "http://127.0.0.1:1"
        await s.after(16)
        row = s.pod_rows()[-1]
        assert (row.ok, row.phase, row.reason, row.in_flight) == (False, "Unreachable", "AgentUnreachable", None)
        probe = s.prober.newest(row.pod_uid)
        assert probe is not None
        assert not probe.reachable
        agent.url = real
        await s.after(4)
        assert s.pod_rows()[-1].ok
        assert [row.ok for row in s.transitions() if isinstance(row, PodHealth)] == [False, True]
        assert len(s.told) == 3


async def test_something_that_is_no_agent_is_said_so() -> None:
    async with stage() as s:
        s.add_server()
        agent = await s.add_pod(1)
        agent.status_code = 500
        await s.after(4)
        assert s.pod_rows()[0].reason == "AgentRefused"


async def test_a_hanging_agent_holds_up_no_other() -> None:
    async with stage() as s:
        s.add_server()
        hanging = await s.add_pod(1, StandInAgent(hold=asyncio.Event()))
        healthy = await s.add_pod(2)
        for _ in range(40):
            s.time += timedelta(seconds=1)
            s.prober.tick()
            await asyncio.sleep(0.01)
        assert hanging.looks == 1
        assert healthy.looks >= 2
        await s.prober.idle()


async def test_no_more_agents_are_asked_at_once_than_allowed() -> None:
    async with stage(concurrency=3) as s:
        s.add_server()
        for n in range(12):
            await s.add_pod(n)
        s.prober.tick()
        s.time += timedelta(seconds=3)
        s.prober.tick()
        await s.prober.idle()
        assert len(s.pod_rows()) == 12
        assert s.client.most == 3


async def test_an_idle_pod_is_asked_for_one_token_now_and_then_with_its_servers_constants() -> None:
    async with stage() as s:
        s.add_server()
        agent = await s.add_pod(1)
        await s.after(1000)
        assert 2 <= len(agent.generations) <= 4
        assert agent.generations[0]["options"] == {"num_ctx": 2048, "num_predict": 1, "temperature": 0}
        assert agent.generations[0]["keep_alive"] == -1
        rows = s.pod_rows("generate")
        assert len(rows) == len(agent.generations)
        assert (rows[0].ok, rows[0].tokens_per_second) == (True, 50.0)


@pytest.mark.parametrize("busy", [{"inFlight": 1}, {"queued": 1}, {"phase": "Loading"}])
async def test_a_busy_pod_is_never_asked_for_a_token(busy: dict[str, object]) -> None:
    async with stage() as s:
        s.add_server()
        agent = await s.add_pod(1)
        agent.said |= busy
        await s.after(700)
        assert agent.generations == []
        assert s.pod_rows("generate") == []


async def test_a_pod_that_gives_no_token_is_not_well_until_it_does() -> None:
    async with stage() as s:
        s.add_server()
        agent = await s.add_pod(1)
        agent.generate_code = 500
        await s.after(400)
        probe = s.prober.newest(f"uid-{SERVER}-1")
        assert probe is not None
        assert (probe.ok, probe.token_ok) == (False, False)
        assert probe.token_error is not None
        assert probe.token_error[0] == "LoadFailed"
        assert probe.state().reason == "LoadFailed"
        tried = len(agent.generations)
        assert tried >= 2
        agent.generate_code = 200
        await s.after(20)
        assert len(agent.generations) == tried + 1
        probe = s.prober.newest(f"uid-{SERVER}-1")
        assert probe is not None
        assert probe.ok
        assert [row.ok for row in s.transitions() if isinstance(row, PodHealth)] == [True]


async def test_a_pod_without_room_for_a_probe_is_not_called_broken() -> None:
    async with stage() as s:
        s.add_server()
        agent = await s.add_pod(1)
        agent.generate_code = 503
        await s.after(400)
        assert agent.generations != []
        assert s.pod_rows("generate") == []
        probe = s.prober.newest(f"uid-{SERVER}-1")
        assert probe is not None
        assert probe.ok


async def test_a_pod_that_went_is_forgotten() -> None:
    async with stage() as s:
        s.add_server()
        agent = await s.add_pod(1)
        await s.after(3)
        s.cache.remove("Pod", "retinue-models", f"{SERVER}-1")
        await s.after(40)
        assert agent.looks == 1
        assert s.prober.newest(f"uid-{SERVER}-1") is None


async def test_an_external_server_that_does_not_answer_is_unreachable() -> None:
    async with stage() as s:
        s.add_server("outside", externalServer="lab")
        await s.after(3)
        probe = s.prober.newest("uid-outside")
        assert probe is not None
        assert (probe.reachable, probe.reason) == (False, "OllamaUnreachable")
        assert s.pod_rows()[0].pod == "lab"


async def test_a_cancelled_prober_leaves_nothing_running() -> None:
    async with stage() as s:
        s.add_server()
        agent = await s.add_pod(1, StandInAgent(hold=asyncio.Event()))
        before = asyncio.all_tasks()
        running = asyncio.create_task(s.prober.run())
        while not agent.looks:
            await asyncio.sleep(0.01)
            s.time += timedelta(seconds=1)
            s.prober.tick()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        agent.hold.set() if agent.hold else None
        names = {task.get_name() for task in asyncio.all_tasks() - before}
        assert not {name for name in names if name.startswith(("look-", "token-"))}
        assert s.prober.newest(f"uid-{SERVER}-1") is None


# Deployments --------------------------------------------------------------------------------------------------------


async def test_a_deployment_gets_one_row_per_period_while_nothing_changes() -> None:
    async with stage() as s:
        s.add_server()
        await s.add_pod(1)
        s.add_deployment()
        await s.after(300)
        rows = s.deployment_rows()
        assert 5 <= len(rows) <= 6
        assert len({row.sample_id for row in rows}) == len(rows)
        row = rows[-1]
        assert (row.ready, row.reason, row.pods_ok, row.environment) == (True, "", 1, "development")
        assert (row.revision, row.revision_digest, row.model_digest) == ("helper-0123456789", "sha256:1", "sha256:9")
        assert row.latency_ms is not None
        assert s.transitions() == []


async def test_a_deployment_waits_for_the_first_word_of_its_pods() -> None:
    async with stage() as s:
        s.add_server()
        s.add_deployment()
        await s.add_pod(1, StandInAgent(hold=asyncio.Event()))
        while not s.agents["http://10.1.0.1:8080"].looks:
            s.time += timedelta(seconds=1)
            s.prober.tick()
            await asyncio.sleep(0.01)
        assert s.deployment_rows() == []
        s.agents["http://10.1.0.1:8080"].hold.set()  # type: ignore[union-attr]
        await s.prober.idle()
        await s.after(1)
        assert [row.ready for row in s.deployment_rows()] == [True]


async def test_a_deployment_whose_only_pod_falls_silent_turns_at_the_next_look() -> None:
    async with stage() as s:
        s.add_server()
        agent = await s.add_pod(1)
        s.add_deployment()
        await s.after(5)
        agent.url = "http://127.0.0.1:1"
        await s.after(17)
        changes = [row for row in s.transitions() if isinstance(row, DeploymentHealth)]
        assert [(row.ready, row.reason, row.pods_ok) for row in changes] == [(False, "AgentUnreachable", 0)]
        assert changes[0].latency_ms is None


async def test_a_change_of_the_deployment_itself_is_written_at_once() -> None:
    async with stage() as s:
        s.add_server()
        await s.add_pod(1)
        s.add_deployment()
        await s.after(4)
        s.add_deployment(available="False")
        await s.after(1)
        s.add_deployment(ready=0, available="False")
        await s.after(1)
        changes = [row for row in s.transitions() if isinstance(row, DeploymentHealth)]
        assert [(row.ready, row.reason, row.ready_replicas) for row in changes] == [
            (False, "Said", 1),
            (False, "Said", 0),
        ]
        assert len({row.sample_id for row in s.deployment_rows()}) == len(s.deployment_rows())


async def test_a_deployment_without_pods_is_not_ready() -> None:
    async with stage() as s:
        s.add_server()
        s.add_deployment()
        await s.after(2)
        assert [(row.ready, row.reason) for row in s.deployment_rows()] == [(False, "NoPods")]


async def test_a_deleted_deployment_gets_no_row_and_a_new_one_of_its_name_begins_anew() -> None:
    async with stage() as s:
        s.add_server()
        await s.add_pod(1)
        s.add_deployment()
        await s.after(3)
        s.cache.remove("AssistantDeployment", "bots", "helper")
        count = len(s.deployment_rows())
        await s.after(100)
        assert len(s.deployment_rows()) == count
        s.add_deployment()
        await s.after(1)
        assert len(s.deployment_rows()) == count + 1
        assert s.transitions() == []
