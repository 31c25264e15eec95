"""The gateway in front of real agents in front of a real Ollama: the whole data path of a model pod."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_rig import CREDENTIAL, MODEL, AgentRig
from builders import make_deployment, make_model_server, make_revision, make_snapshot
from gateway_process import MODELS_NAMESPACE, GatewayProcess, chat
from retinue.domain.routing import RouteObjects
from retinue.ollama.client import OllamaClient, new_session
from testbed.ollama_server import OllamaServer

pytestmark = pytest.mark.contract

RUNNER = {"numCtx": 2048}


@pytest.fixture
async def digest(ollama: OllamaServer) -> str:
    async with new_session() as session:
        return await OllamaClient(session, ollama.url).digest_of(MODEL)


def objects(digest: str, *urls: str) -> RouteObjects:
    """One deployment whose model server has a Ready pod at each of these agents."""
    snapshot = make_snapshot(
        model={"name": MODEL, "digest": digest},
        runner=RUNNER,
        options={"temperature": "0", "seed": 1, "maxTokens": 200},
    )
    revision = make_revision(snapshot=snapshot)
    server = make_model_server(model=MODEL, digest=digest, runner=RUNNER)
    name = server["metadata"]["name"]
    slices = [
        {
            "metadata": {
                "name": f"{name}-{i}",
                "namespace": MODELS_NAMESPACE,
                "labels": {"kubernetes.io/service-name": name},
            },
            "ports": [{"name": "agent", "port": int(url.rpartition(":")[2])}],
            "endpoints": [
                {"addresses": ["127.0.0.1"], "conditions": {"ready": True}, "targetRef": {"name": f"pod-{i}"}}
            ],
        }
        for i, url in enumerate(urls)
    ]
    status = {"activeRevision": revision["metadata"]["name"], "modelServer": name}
    return RouteObjects([make_deployment(status=status)], [revision], [server], slices)


@asynccontextmanager
async def gateway(
    folder: Path, routes: RouteObjects, **fields: Any
) -> AsyncIterator[tuple[GatewayProcess, httpx.AsyncClient]]:
    """A gateway with these routes and a client; the loop stays free, because the agents run in it."""
    process = GatewayProcess(folder / "gateway", credential=fields.pop("credential", CREDENTIAL), **fields)
    process.write_snapshot(routes)
    try:
        await asyncio.to_thread(process.start)
        headers = {"Authorization": "Bearer test-token-of-the-gateway"}
        async with httpx.AsyncClient(base_url=process.url, headers=headers, timeout=120) as client:
            yield process, client
    finally:
        process.end()


@asynccontextmanager
async def occupied(agent: AgentRig) -> AsyncIterator[None]:
    """Take a place of the pod for as long as wanted: a request whose body does not come."""
    _, writer = await asyncio.open_connection("127.0.0.1", int(agent.url.rpartition(":")[2]))
    head = f"POST /api/chat HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CREDENTIAL}\r\nContent-Length: 9\r\n\r\n"
    writer.write(head.encode())
    await agent.until(lambda status: status.in_flight + status.queued == 1)
    try:
        yield
    finally:
        writer.close()
        await agent.until(lambda status: status.in_flight + status.queued == 0)


async def ask(client: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await client.post("/v1/chat/completions", json=chat("Say hello.", model="support-bot", **fields))


async def test_an_answer_comes_through_agent_and_gateway(ollama: OllamaServer, digest: str, tmp_path: Path) -> None:
    async with AgentRig(tmp_path, ollama=ollama.url, digest=digest) as agent:
        await agent.phase("Ready")
        async with gateway(tmp_path, objects(digest, agent.url)) as (process, client):
            answer = (await ask(client, max_tokens=5)).json()
            assert answer["usage"]["completion_tokens"] == 5
            streamed = await ask(client, max_tokens=5, stream=True)
            assert streamed.text.endswith("data: [DONE]\n\n")
            assert '"pod":"pod-0"' in process.log


async def test_a_credential_that_the_agent_does_not_know_is_the_platforms_fault(
    ollama: OllamaServer, digest: str, tmp_path: Path
) -> None:
    async with AgentRig(tmp_path, ollama=ollama.url, digest=digest) as agent:
        await agent.phase("Ready")
        async with gateway(tmp_path, objects(digest, agent.url), credential="another") as (_, client):
            response = await ask(client)
            assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_error")


async def test_a_full_pod_gives_way_to_another_and_two_full_pods_to_a_refusal(
    ollama: OllamaServer, digest: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        agents = []
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            rig = AgentRig(tmp_path / name, ollama=ollama.url, digest=digest, slots=1, queue=0)
            agents.append(await stack.enter_async_context(rig))
        for agent in agents:
            await agent.phase("Ready")
        process, client = await stack.enter_async_context(gateway(tmp_path, objects(digest, *(a.url for a in agents))))
        # The gateway counts its own requests only, so it has to be told by the agent that this pod is taken.
        async with occupied(agents[0]):
            assert [(await ask(client, max_tokens=1)).status_code for _ in range(4)] == [200] * 4
            assert '"pod":"pod-0"' not in process.log
            async with occupied(agents[1]):
                refused = await ask(client)
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
                assert int(refused.headers["retry-after"]) >= 1
        assert (await ask(client, max_tokens=1)).status_code == 200


async def test_requests_spread_over_pods_and_survive_one_that_is_gone(
    ollama: OllamaServer, digest: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        agents = []
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            rig = AgentRig(tmp_path / name, ollama=ollama.url, digest=digest, slots=1, queue=4)
            agents.append(rig)
            await (stack if name == "a" else (leaving := AsyncExitStack())).enter_async_context(rig)
        for agent in agents:
            await agent.phase("Ready")
        process, client = await stack.enter_async_context(gateway(tmp_path, objects(digest, *(a.url for a in agents))))
        answers = await asyncio.gather(*(ask(client, max_tokens=2) for _ in range(6)))
        assert {a.status_code for a in answers} == {200}
        assert all(f'"pod":"pod-{i}"' in process.log for i in (0, 1))
        await leaving.aclose()
        answers = [await ask(client, max_tokens=1) for _ in range(6)]
        assert {a.status_code for a in answers} == {200}


async def test_when_the_client_leaves_the_model_stops(ollama: OllamaServer, digest: str, tmp_path: Path) -> None:
    async with AgentRig(tmp_path, ollama=ollama.url, digest=digest, slots=1, queue=0) as agent:
        await agent.phase("Ready")
        async with gateway(tmp_path, objects(digest, agent.url)) as (process, client):
            body = chat("Write a very long story.", model="support-bot", stream=True)
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                assert response.status_code == 200
                assert (await agent.status()).in_flight == 1
            await agent.until(lambda status: status.in_flight == 0, seconds=20)
            await asyncio.to_thread(process.wait_until, lambda: '"client_gone"' in process.log, "saw no one leave")
