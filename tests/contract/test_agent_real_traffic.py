"""What an agent lets through to a real Ollama: who, which routes, how many, and what happens when somebody leaves."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from agent_rig import CONSTANTS, CREDENTIAL, MODEL, AgentRig, chat_request
from retinue.ollama.agent_client import AgentClient
from retinue.ollama.client import OllamaClient, new_session
from retinue.ollama.errors import AccessDenied, AgentRefused, AgentUnreachable, OllamaBusy
from testbed.model_registry import ModelRegistry
from testbed.ollama_server import OllamaServer

pytestmark = pytest.mark.contract

LONG = 1500
"""Tokens of an answer that is still running when the test looks."""


@pytest.fixture(scope="session")
def digest(ollama: OllamaServer) -> str:
    """Digest of the model in the shared Ollama."""

    async def ask() -> str:
        async with new_session() as session:
            return await OllamaClient(session, ollama.url).digest_of(MODEL)

    return asyncio.run(ask())


@pytest.fixture
async def agent(ollama: OllamaServer, digest: str, tmp_path: Path) -> AsyncIterator[AgentRig]:
    """A ready agent with one slot and a queue of one."""
    async with AgentRig(tmp_path, ollama=ollama.url, digest=digest, slots=1, queue=1) as rig:
        await rig.phase("Ready")
        yield rig


async def test_a_stream_passes_byte_for_byte_and_is_counted(agent: AgentRig, ollama: OllamaServer) -> None:
    status, headers, body = await agent.chat("Say hello.", 12)
    lines = [json.loads(line) for line in body.splitlines()]
    assert (status, headers["content-type"]) == (200, "application/x-ndjson")
    assert lines[-1]["done"] and not any(line["done"] for line in lines[:-1])
    async with agent.session.post(f"{ollama.url}/api/chat", json=chat_request("Say hello.", 12)) as direct:
        expected = [json.loads(line) for line in (await direct.read()).splitlines()]
    assert [line["message"] for line in lines] == [line["message"] for line in expected]
    assert await agent.metric('retinue_agent_tokens_total{kind="completion"}') == lines[-1]["eval_count"]
    assert await agent.metric('retinue_agent_tokens_total{kind="prompt"}') == lines[-1]["prompt_eval_count"]
    assert await agent.metric('retinue_agent_requests_total{code="200",route="/api/chat"}') == 1
    token = (await agent.status()).last_token
    assert token is not None and token.tokens_per_second and token.latency_ms


async def test_answers_that_are_no_stream_and_other_routes_pass(agent: AgentRig) -> None:
    status, headers, body = await agent.post("/api/chat", {**chat_request("Hi", 3), "stream": False})
    assert (status, int(headers["content-length"])) == (200, len(body))
    assert json.loads(body)["done"]
    status, _, body = await agent.post("/api/embed", {**CONSTANTS, "model": MODEL, "input": ["a", "b"]})
    assert (status, len(json.loads(body)["embeddings"])) == (200, 2)
    assert json.loads((await agent.post("/api/show", {"model": MODEL}))[2])["capabilities"]
    assert json.loads((await agent.get("/api/version"))[2]) == {"version": "0.24.0"}
    assert json.loads((await agent.get("/api/ps"))[2])["models"][0]["name"] == MODEL
    assert {m["name"] for m in json.loads((await agent.get("/api/tags"))[2])["models"]} >= {MODEL}


async def test_errors_of_ollama_pass_with_their_status(agent: AgentRig) -> None:
    status, _, body = await agent.post("/api/chat", {**chat_request("Hi", 1), "model": "absent"})
    assert status == 404 and "absent" in json.loads(body)["error"]
    assert (await agent.post("/api/chat", b"{no json"))[0] == 400


async def test_without_the_credential_every_protected_route_is_401(agent: AgentRig) -> None:
    tokens = (None, "", "wrong", hashlib.sha256(CREDENTIAL.encode()).hexdigest())
    for token in tokens:
        for path in ("/status", "/api/ps", "/api/tags", "/api/version"):
            assert (await agent.get(path, token=token))[0] == 401, (path, token)
        for path in ("/api/chat", "/api/generate", "/api/embed", "/api/show"):
            assert (await agent.post(path, chat_request("Hi", 1), token=token))[0] == 401, (path, token)
    assert await agent.metric('retinue_agent_rejected_total{reason="Unauthorized"}') == 8 * len(tokens)


async def test_probes_and_metrics_need_no_credential(agent: AgentRig) -> None:
    for path in ("/livez", "/livez/ollama", "/readyz", "/metrics"):
        assert (await agent.get(path, token=None))[0] == 200


UNLISTED = [
    ("POST", "/api/pull"),
    ("POST", "/api/push"),
    ("POST", "/api/create"),
    ("POST", "/api/copy"),
    ("DELETE", "/api/delete"),
    ("POST", "/api/blobs/sha256:0"),
    ("POST", "/api/embeddings"),
    ("POST", "/v1/chat/completions"),
    ("GET", "/"),
    ("GET", "/api/chat"),
    ("POST", "/api/ps"),
    ("POST", "/status"),
    ("GET", "/api/ps/"),
    ("GET", "//api/ps"),
    ("GET", "/api/../api/ps"),
    ("GET", "/api/%2e%2e/delete"),
    ("OPTIONS", "/api/chat"),
    ("HEAD", "/api/tags"),
]


async def test_everything_that_is_not_listed_is_404(agent: AgentRig) -> None:
    for method, path in UNLISTED:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(agent.url.rpartition(":")[2]))
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CREDENTIAL}\r\nContent-Length: 0\r\n\r\n"
        writer.write(head.encode())
        assert (await reader.readline()).split()[1] == b"404", (method, path)
        writer.close()
        await writer.wait_closed()


async def test_a_rotated_credential_is_taken_without_a_restart(agent: AgentRig) -> None:
    agent.credential_file.write_text(hashlib.sha256(b"the next one").hexdigest())
    await agent.until_answer("/api/ps", 200, token="the next one")
    assert (await agent.get("/api/ps"))[0] == 401


async def test_requests_beyond_the_bound_get_503_and_the_waiting_one_its_turn(agent: AgentRig) -> None:
    async with agent.chatting(LONG):
        waiting = asyncio.create_task(agent.chat("Hi", 2))
        await agent.until(lambda s: (s.in_flight, s.queued) == (1, 1))
        status, headers, body = await agent.chat("Hi", 2)
        assert status == 503 and int(headers["retry-after"]) >= 1
        assert json.loads(body)["reason"] == "Busy"
        assert (await agent.get("/readyz", token=None))[0] == 200
        assert (await agent.get("/api/ps"))[0] == 200
    assert (await waiting)[0] == 200
    assert await agent.metric('retinue_agent_rejected_total{reason="Busy"}') == 1


async def test_a_waiting_client_that_leaves_frees_its_place(agent: AgentRig) -> None:
    async with agent.chatting(LONG):
        waiting = asyncio.create_task(agent.chat("Hi", 2))
        await agent.until(lambda s: s.queued == 1)
        waiting.cancel()
        await agent.until(lambda s: (s.in_flight, s.queued) == (1, 0))
    assert await agent.metric('retinue_agent_requests_total{code="499",route="/api/chat"}') == 1


async def test_a_client_that_leaves_stops_ollama(agent: AgentRig, ollama: OllamaServer) -> None:
    """Ollama has one slot as well, so it answers the next request at once only if the first one was really stopped."""
    async with agent.chatting(100_000):
        pass
    await agent.until(lambda s: s.in_flight == 0)
    async with asyncio.timeout(20), agent.session.post(f"{ollama.url}/api/chat", json=chat_request("Hi", 1)) as reply:
        assert reply.status == 200
        await reply.read()


async def test_a_body_beyond_the_limit_is_refused(ollama: OllamaServer, digest: str, tmp_path: Path) -> None:
    async with AgentRig(tmp_path, ollama=ollama.url, digest=digest, body_bytes=20_000) as agent:
        await agent.phase("Ready")
        assert (await agent.post("/api/chat", b"x" * 20_001))[0] == 413

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(30):
                yield b"x" * 1000

        headers = {"Authorization": f"Bearer {CREDENTIAL}"}
        async with agent.session.post(agent.url + "/api/chat", data=chunks(), headers=headers) as reply:
            assert reply.status == 413
        assert (await agent.chat("Hi", 1))[0] == 200


async def test_bodies_that_fill_the_memory_and_bodies_that_never_come_are_refused(
    ollama: OllamaServer, digest: str, tmp_path: Path
) -> None:
    async with AgentRig(
        tmp_path, ollama=ollama.url, digest=digest, body_bytes=5000, body_budget_bytes=5000, body_seconds=0.3
    ) as agent:
        await agent.phase("Ready")

        def head(size: int) -> bytes:
            return (
                f"POST /api/chat HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CREDENTIAL}\r\n"
                f"Content-Length: {size}\r\n\r\n"
            ).encode()

        reader, writer = await asyncio.open_connection("127.0.0.1", int(agent.url.rpartition(":")[2]))
        writer.write(head(4000) + b"{")
        await agent.until(lambda s: s.queued == 1)
        status, _, body = await agent.post("/api/chat", b"x" * 2000)
        assert status == 503 and json.loads(body)["reason"] == "BodiesTooLarge"
        assert (await reader.readline()).split()[1] == b"408"
        writer.close()
        await writer.wait_closed()
        assert (await agent.chat("Hi", 1))[0] == 200


async def test_a_draining_agent_is_not_ready_and_finishes_what_runs(
    ollama: OllamaServer, digest: str, tmp_path: Path
) -> None:
    async with AgentRig(tmp_path, ollama=ollama.url, digest=digest, slots=1, queue=4) as agent:
        await agent.phase("Ready")
        running = asyncio.create_task(agent.chat("Count from one to a thousand.", 60))
        await agent.until(lambda s: s.in_flight == 1)
        waiting = asyncio.create_task(agent.chat("Hi", 2))
        await agent.until(lambda s: s.queued == 1)
        agent.terminate()
        await agent.until_answer("/readyz", 503)
        for answer in (await running, await waiting):
            assert answer[0] == 200 and json.loads(answer[2].splitlines()[-1])["done"]
        await agent.serving
        with pytest.raises(aiohttp.ClientError):
            await agent.get("/livez", token=None)


async def test_a_drain_that_takes_too_long_cuts_what_still_runs(
    ollama: OllamaServer, digest: str, tmp_path: Path
) -> None:
    async with AgentRig(tmp_path, ollama=ollama.url, digest=digest, slots=1, queue=1, drain_seconds=0.2) as agent:
        await agent.phase("Ready")
        async with agent.chatting(100_000) as running:
            waiting = asyncio.create_task(agent.chat("Hi", 2))
            await agent.until(lambda s: s.queued == 1)
            agent.terminate()
            status, _, body = await waiting
            assert status == 503 and json.loads(body)["reason"] == "Draining"
            with pytest.raises(aiohttp.ClientPayloadError):
                while await running.content.readany():
                    pass
        await agent.serving


async def test_an_ollama_that_dies_in_a_stream_breaks_the_stream(tmp_path: Path, model_registry: ModelRegistry) -> None:
    with OllamaServer(preload=True) as server:
        async with AgentRig(tmp_path, ollama=server.url, digest=model_registry.digest(MODEL), poll_seconds=60) as agent:
            await agent.phase("Ready")
            async with agent.chatting(100_000) as reply:
                server.kill()
                with pytest.raises(aiohttp.ClientPayloadError):
                    while await reply.content.readany():
                        pass
            # Long before the next poll: the broken connection itself made the agent look.
            await agent.phase("Starting", "OllamaUnreachable")
            assert await agent.metric('retinue_agent_requests_total{code="broken",route="/api/chat"}') == 1


async def test_an_ollama_that_hangs_is_found_and_told_to_its_liveness_probe(
    tmp_path: Path, model_registry: ModelRegistry
) -> None:
    with OllamaServer(preload=True) as server:
        async with AgentRig(
            tmp_path, ollama=server.url, digest=model_registry.digest(MODEL), hung_seconds=0.5, poll_seconds=60
        ) as agent:
            await agent.phase("Ready")
            server.freeze()
            status, _, body = await agent.chat("Hi", 1)
            assert status == 504 and json.loads(body)["reason"] == "OllamaTimedOut"
            await agent.until_answer("/livez/ollama", 503)
            assert (await agent.status()).reason == "OllamaHung"
            assert (await agent.get("/readyz", token=None))[0] == 503
            assert (await agent.get("/livez", token=None))[0] == 200
            server.thaw()
            await agent.phase("Ready")
            assert (await agent.get("/livez/ollama", token=None))[0] == 200


async def test_the_operators_client_reads_and_asks_and_tells_refusals_apart(agent: AgentRig) -> None:
    client = AgentClient(agent.session, CREDENTIAL)
    token = await client.generate_one(agent.url, MODEL, CONSTANTS)
    assert token.latency_ms > 0
    async with agent.chatting(LONG):
        waiting = asyncio.create_task(agent.chat("Hi", 1))
        await agent.until(lambda s: s.queued == 1)
        with pytest.raises(OllamaBusy):
            await client.generate_one(agent.url, MODEL, CONSTANTS)
    await waiting
    stranger = AgentClient(agent.session, "wrong")
    with pytest.raises(AgentRefused):
        await stranger.status(agent.url)
    with pytest.raises(AccessDenied):
        await stranger.generate_one(agent.url, MODEL, CONSTANTS)
    for call in (client.status("http://127.0.0.1:1"), client.generate_one("http://127.0.0.1:1", MODEL, CONSTANTS)):
        with pytest.raises(AgentUnreachable):
            await call
