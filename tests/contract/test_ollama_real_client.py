"""The client against a real Ollama 0.24: replies as they are, and the texts by which its errors are told apart."""

import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_rig import CONSTANTS, MODEL, AgentRig, chat_request
from retinue.ollama import errors
from retinue.ollama.client import OllamaClient, new_session
from testbed.model_registry import ModelRegistry
from testbed.models import ensure_model
from testbed.ollama_server import OllamaServer

pytestmark = pytest.mark.contract


@pytest.fixture
async def client(ollama: OllamaServer) -> AsyncIterator[OllamaClient]:
    async with new_session() as session:
        yield OllamaClient(session, ollama.url)


@pytest.fixture
def own_ollama() -> Iterator[OllamaServer]:
    with OllamaServer(preload=True) as server:
        yield server


@pytest.fixture
async def own_client(own_ollama: OllamaServer) -> AsyncIterator[OllamaClient]:
    async with new_session() as session:
        yield OllamaClient(session, own_ollama.url)


async def test_what_is_stored_and_loaded_is_read(client: OllamaClient) -> None:
    assert await client.version() == "0.24.0"
    stored = {m.name: m for m in await client.tags()}
    assert stored[MODEL].size > 90_000_000
    assert stored[MODEL].digest == await client.digest_of("SMOLLM2:135M") != ""
    assert await client.digest_of("absent") == ""
    await client.preload(MODEL, CONSTANTS, seconds=60)
    (loaded,) = await client.ps()
    assert (loaded.digest, loaded.processor, loaded.context_length) == (stored[MODEL].digest, "CPU", 2048)
    assert "completion" in (await client.show(MODEL))["capabilities"]


async def test_a_stream_yields_each_line_and_ends_with_the_counters(client: OllamaClient) -> None:
    lines = [line async for line in client.stream("/api/chat", chat_request("Say hello.", 5), idle_seconds=60)]
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1]["eval_count"] <= 5


async def test_the_same_constants_never_load_twice_and_others_do(client: OllamaClient) -> None:
    """The reason for request constants: a request with another window starts another runner."""
    await client.preload(MODEL, CONSTANTS, seconds=60)
    same = await client.generate_one(MODEL, CONSTANTS, seconds=60)
    other = await client.generate_one(MODEL, {**CONSTANTS, "options": {"num_ctx": 1024}}, seconds=60)
    (loaded,) = await client.ps()
    assert loaded.context_length == 1024
    assert same.load_ms < other.load_ms
    await client.preload(MODEL, CONSTANTS, seconds=60)


async def test_a_copy_has_the_same_digest_and_its_removal_leaves_the_original(own_client: OllamaClient) -> None:
    digest = await own_client.digest_of(MODEL)
    await own_client.copy(MODEL, "10.0.0.1:5000/library/alias:1")
    assert await own_client.digest_of("10.0.0.1:5000/library/alias:1") == digest
    await own_client.delete("10.0.0.1:5000/library/alias:1")
    await own_client.delete("10.0.0.1:5000/library/alias:1")
    assert await own_client.digest_of(MODEL) == digest
    assert (await own_client.generate_one(MODEL, CONSTANTS, seconds=60)).latency_ms > 0


async def test_refusals_are_told_apart(client: OllamaClient) -> None:
    with pytest.raises(errors.ModelUnknown):
        await client.generate_one("absent:1", CONSTANTS, seconds=10)
    with pytest.raises(errors.ModelUnknown):
        await client.show("absent:1")
    with pytest.raises(errors.ModelUnknown):
        await client.copy("absent:1", "other:1")
    with pytest.raises(errors.ModelUnknown):
        await anext(client.stream("/api/chat", {"model": "absent:1", "messages": []}, idle_seconds=10))
    with pytest.raises(errors.ModelInvalid):
        await client.copy(MODEL, "not a name!")
    with pytest.raises(errors.OllamaTimedOut):
        await client.generate_one(MODEL, {**CONSTANTS, "options": {"num_ctx": 2048, "seed": 7}}, seconds=0.001)


async def test_an_ollama_that_is_away_or_silent_is_told_apart(
    own_ollama: OllamaServer, own_client: OllamaClient
) -> None:
    own_ollama.freeze()
    with pytest.raises(errors.OllamaTimedOut):
        await own_client.version(seconds=0.3)
    own_ollama.thaw()
    own_ollama.kill()
    with pytest.raises(errors.OllamaUnreachable):
        await own_client.version()
    with pytest.raises(errors.OllamaUnreachable):
        await anext(own_client.pull("x:1"))


async def pull(client: OllamaClient, name: str, **options: Any) -> list[str]:
    return [progress.status async for progress in client.pull(name, insecure=True, **options)]


async def test_the_ends_of_pulls_are_told_apart(
    own_ollama: OllamaServer, own_client: OllamaClient, model_registry: ModelRegistry
) -> None:
    host = f"{model_registry.address}/library"
    with pytest.raises(errors.ModelUnknown):
        await pull(own_client, f"{host}/absent:1")
    with pytest.raises(errors.RegistryUnreachable):
        await pull(own_client, "127.0.0.1:1/library/smollm2:135m")
    with pytest.raises(errors.RegistryUnreachable):
        await pull(own_client, "nowhere.invalid/library/smollm2:135m")
    with pytest.raises(errors.RegistryUnreachable, match="HTTPS"):
        [progress async for progress in own_client.pull(f"{host}/smollm2:135m")]
    with pytest.raises(errors.ModelInvalid):
        await pull(own_client, "not a name!")
    model_registry.freeze()
    with pytest.raises(errors.PullStalled):
        await pull(own_client, f"{host}/smollm2:135m", stall_seconds=0.3)
    model_registry.thaw()
    assert (await pull(own_client, f"{host}/smollm2:135m"))[-1] == "success"


def embedding_model(source: Path, target: Path) -> None:
    """The same weights, marked as an embedding model: one more entry at the head of the GGUF file.

    A second entry pads both to a multiple of the alignment, so that nothing behind them has to be moved apart.
    """
    content = source.read_bytes()
    magic, version, tensors, entries = struct.unpack("<4sIQQ", content[:24])
    key = b"llama.pooling_type"
    added = struct.pack("<Q", len(key)) + key + struct.pack("<II", 4, 1)
    pad = b"test.padding"
    size = len(added) + 8 + len(pad) + 4 + 8
    fill = b" " * (-size % 32)
    added += struct.pack("<Q", len(pad)) + pad + struct.pack("<IQ", 8, len(fill)) + fill
    target.write_bytes(struct.pack("<4sIQQ", magic, version, tensors, entries + 2) + added + content[24:])


async def test_a_model_that_only_embeds_is_preloaded_checked_and_served(
    own_ollama: OllamaServer, own_client: OllamaClient, tmp_path: Path
) -> None:
    embedding_model(ensure_model("smollm2"), tmp_path / "embed.gguf")
    (tmp_path / "Modelfile").write_text(f"FROM {tmp_path}/embed.gguf\n")
    own_ollama.command("create", "embedder:1", "-f", tmp_path / "Modelfile")
    assert (await own_client.show("embedder:1"))["capabilities"] == ["embedding"]
    digest = await own_client.digest_of("embedder:1")
    async with AgentRig(
        tmp_path, ollama=own_ollama.url, digest=digest, model="embedder:1", pull_name="embedder:1"
    ) as agent:
        ready = await agent.phase("Ready")
        assert ready.last_token is not None and ready.last_token.tokens_per_second is None
        status, _, _ = await agent.post("/api/embed", {**CONSTANTS, "model": "embedder:1", "input": "hello"})
        assert status == 200
        status, _, body = await agent.post("/api/chat", {**chat_request("Hi", 1), "model": "embedder:1"})
        assert status == 400 and b"does not support chat" in body
