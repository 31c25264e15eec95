"""How an agent gets its model, on a real Ollama 0.24 and a real registry: pulls, moved tags, restarts, refusals."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_rig import CONSTANTS, MODEL, AgentRig
from retinue.ollama.client import OllamaClient, new_session
from testbed.model_registry import ModelRegistry
from testbed.ollama_server import OllamaServer

pytestmark = pytest.mark.contract

WRONG = "sha256:" + "0" * 64


@pytest.fixture
def own_ollama() -> Iterator[OllamaServer]:
    """An Ollama with an empty store."""
    with OllamaServer() as server:
        yield server


def pull_name(registry: ModelRegistry, model: str = MODEL) -> str:
    return f"{registry.address}/library/{model}"


async def test_a_model_is_pulled_checked_named_loaded_and_then_ready(
    own_ollama: OllamaServer, model_registry: ModelRegistry, tmp_path: Path
) -> None:
    digest = model_registry.digest(MODEL)
    model_registry.slow_blobs(60_000_000)
    async with AgentRig(tmp_path, ollama=own_ollama.url, digest=digest, pull_name=pull_name(model_registry)) as agent:
        assert (await agent.get("/readyz", token=None))[0] == 503
        pulling = await agent.until(lambda s: s.pull is not None and 0 < s.pull.completed_bytes < s.pull.total_bytes)
        assert pulling.phase == "Pulling" and not pulling.loaded
        ready = await agent.phase("Ready")
        assert (await agent.get("/readyz", token=None))[0] == 200
        assert ready.digest == ready.wanted_digest == digest
        assert (ready.loaded, ready.processor, ready.vram_bytes, ready.pull) == (True, "CPU", 0, None)
        assert ready.ollama_version == "0.24.0"
        assert ready.last_token is not None
        order = [phase for phase, _ in agent.seen]
        assert order == sorted(order, key=["Starting", "Pulling", "Verifying", "Loading", "Warming", "Ready"].index)
        client = OllamaClient(agent.session, own_ollama.url)
        assert [m.name for m in await client.tags()] == [MODEL]
        assert [m.context_length for m in await client.ps()] == [CONSTANTS["options"]["num_ctx"]]


async def test_a_restart_on_a_full_volume_needs_no_registry(
    own_ollama: OllamaServer, model_registry: ModelRegistry, tmp_path: Path
) -> None:
    digest, name = model_registry.digest(MODEL), pull_name(model_registry)
    async with AgentRig(tmp_path, ollama=own_ollama.url, digest=digest, pull_name=name) as agent:
        await agent.phase("Ready")
    own_ollama.kill()
    model_registry.stop()
    own_ollama.start()
    async with AgentRig(tmp_path, ollama=own_ollama.url, digest=digest, pull_name=name) as agent:
        await agent.phase("Ready")
        assert "Pulling" not in [phase for phase, _ in agent.seen]


async def test_a_pull_that_breaks_is_resumed_where_it_was(
    own_ollama: OllamaServer, model_registry: ModelRegistry, tmp_path: Path
) -> None:
    model_registry.slow_blobs(20_000_000)
    async with AgentRig(
        tmp_path,
        ollama=own_ollama.url,
        digest=model_registry.digest(MODEL),
        pull_name=pull_name(model_registry),
        stall_seconds=2,
    ) as agent:
        await agent.until(lambda s: s.pull is not None and s.pull.completed_bytes > 30_000_000)
        model_registry.cut_blobs()
        failed = await agent.until(lambda s: s.phase == "Failed")
        assert failed.reason in {"PullFailed", "PullStalled", "RegistryUnreachable"}
        model_registry.resume_blobs()
        await agent.phase("Ready")
    ranges = [line.split()[2] for line in model_registry.blob_requests() if len(line.split()) > 2]
    assert any(not part.startswith(("bytes=0-", "-")) for part in ranges), ranges


async def test_unreadable_notes_of_an_interrupted_pull_are_named(
    own_ollama: OllamaServer, model_registry: ModelRegistry, tmp_path: Path
) -> None:
    """What a node that loses power leaves behind; Ollama never gets over it by itself."""
    name = pull_name(model_registry)
    model_registry.slow_blobs(20_000_000)
    async with new_session() as session:
        pull = OllamaClient(session, own_ollama.url).pull(name, insecure=True)
        async with contextlib.aclosing(pull) as lines:
            async for progress in lines:
                if progress.completed_bytes > 1_000_000:
                    break
    own_ollama.kill()
    (note,) = own_ollama.models.glob("blobs/*-partial-0")
    note.write_bytes(b"")
    model_registry.resume_blobs()
    own_ollama.start()
    async with AgentRig(tmp_path, ollama=own_ollama.url, digest=model_registry.digest(MODEL), pull_name=name) as agent:
        failed = await agent.phase("Failed", "PullDamaged")
        assert "claim" in failed.message
        note.unlink()
        await agent.phase("Ready")


async def test_a_pull_that_stands_still_is_stopped_and_tried_again(
    own_ollama: OllamaServer, model_registry: ModelRegistry, tmp_path: Path
) -> None:
    model_registry.freeze()
    async with AgentRig(
        tmp_path,
        ollama=own_ollama.url,
        digest="sha256:" + "1" * 64,
        pull_name=pull_name(model_registry),
        stall_seconds=0.5,
    ) as agent:
        stalled = await agent.phase("Failed", "PullStalled")
        assert "0.5 s" in stalled.message
        model_registry.thaw()
        await agent.phase("Failed", "TagMoved")


async def test_a_moved_tag_is_never_served_and_serves_when_it_moves_back(
    own_ollama: OllamaServer, model_registry: ModelRegistry, tmp_path: Path
) -> None:
    wanted = model_registry.digest(MODEL)
    model_registry.tag(MODEL, "smollm2:kept")
    moved = model_registry.push_variant(MODEL, MODEL, system="You are another model.")
    async with AgentRig(tmp_path, ollama=own_ollama.url, digest=wanted, pull_name=pull_name(model_registry)) as agent:
        failed = await agent.phase("Failed", "TagMoved")
        assert (failed.digest, failed.wanted_digest, failed.loaded) == (moved, wanted, False)
        assert moved in failed.message and "new revision" in failed.message
        status, headers, body = await agent.chat("Hi", 1)
        assert status == 503 and b"TagMoved" in body and headers["retry-after"] == "1"
        model_registry.tag("smollm2:kept", MODEL)
        assert (await agent.phase("Ready")).digest == wanted


async def test_a_wrong_model_under_the_plain_name_is_never_served(
    tmp_path: Path, model_registry: ModelRegistry
) -> None:
    with OllamaServer(preload=True) as server:
        async with AgentRig(tmp_path, ollama=server.url, digest=WRONG, pull_name=pull_name(model_registry)) as agent:
            failed = await agent.phase("Failed", "TagMoved")
            assert not failed.loaded
            assert (await agent.chat("Hi", 1))[0] == 503
            assert (await agent.get("/readyz", token=None))[0] == 503


async def test_an_unknown_model_fails_with_what_to_do_and_comes_when_it_is_published(
    own_ollama: OllamaServer, model_registry: ModelRegistry, tmp_path: Path
) -> None:
    digest = model_registry.digest(MODEL)
    async with AgentRig(
        tmp_path, ollama=own_ollama.url, digest=digest, pull_name=pull_name(model_registry, "smollm2:soon")
    ) as agent:
        failed = await agent.phase("Failed", "ModelUnknown")
        assert "spec.model.name" in failed.message
        model_registry.tag(MODEL, "smollm2:soon")
        await agent.phase("Ready")


async def test_a_registry_that_is_away_is_named(own_ollama: OllamaServer, tmp_path: Path) -> None:
    async with AgentRig(
        tmp_path, ollama=own_ollama.url, digest=WRONG, pull_name="127.0.0.1:1/library/smollm2:135m"
    ) as agent:
        failed = await agent.phase("Failed", "RegistryUnreachable")
        assert "127.0.0.1:1" in failed.message and "modelRegistries" in failed.message


async def test_a_model_that_cannot_be_loaded_fails_and_stays_refused(
    own_ollama: OllamaServer, model_registry: ModelRegistry, tmp_path: Path
) -> None:
    digest = model_registry.push_broken("broken:1")
    async with AgentRig(
        tmp_path, ollama=own_ollama.url, digest=digest, pull_name=pull_name(model_registry, "broken:1")
    ) as agent:
        failed = await agent.phase("Failed", "LoadFailed")
        assert failed.digest == digest
        assert (await agent.chat("Hi", 1))[0] == 503


async def test_an_ollama_that_is_killed_is_loaded_again_before_the_pod_is_ready(
    tmp_path: Path, model_registry: ModelRegistry
) -> None:
    with OllamaServer(preload=True) as server:
        async with AgentRig(tmp_path, ollama=server.url, digest=model_registry.digest(MODEL)) as agent:
            await agent.phase("Ready")
            server.kill()
            gone = await agent.phase("Starting", "OllamaUnreachable")
            assert not gone.loaded
            assert (await agent.get("/readyz", token=None))[0] == 503
            assert (await agent.get("/livez", token=None))[0] == 200
            status, _, body = await agent.chat("Hi", 1)
            assert status == 503 and b"NotReady" in body
            server.start()
            agent.seen.clear()
            await agent.phase("Ready")
            assert (await agent.chat("Hi", 2))[0] == 200


async def test_a_model_that_is_unloaded_is_loaded_again(tmp_path: Path, model_registry: ModelRegistry) -> None:
    with OllamaServer(preload=True) as server:
        async with AgentRig(tmp_path, ollama=server.url, digest=model_registry.digest(MODEL)) as agent:
            await agent.phase("Ready")
            client = OllamaClient(agent.session, server.url)
            await client.preload(MODEL, {"keep_alive": 0}, seconds=10)
            await agent.phase("Loading")
            await agent.phase("Ready")


async def test_an_agent_that_restarts_uses_the_model_that_is_in_memory(
    tmp_path: Path, model_registry: ModelRegistry
) -> None:
    with OllamaServer(preload=True) as server:
        digest = model_registry.digest(MODEL)
        async with AgentRig(tmp_path, ollama=server.url, digest=digest) as agent:
            await agent.phase("Ready")
        async with AgentRig(tmp_path, ollama=server.url, digest=digest) as agent:
            await agent.phase("Ready")
            assert ("Loading", "") not in agent.seen


async def test_the_agent_waits_for_an_ollama_that_starts_later(tmp_path: Path, model_registry: ModelRegistry) -> None:
    server = OllamaServer(preload=True)
    async with AgentRig(tmp_path, ollama=server.url, digest=model_registry.digest(MODEL)) as agent:
        waiting = await agent.phase("Starting", "OllamaUnreachable")
        assert waiting.ollama_version == ""
        with server:
            await agent.phase("Ready")
