"""A volume that is too small for its model, as a real file system of a few megabytes (needs root to mount it)."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_rig import MODEL, AgentRig
from testbed.model_registry import ModelRegistry
from testbed.ollama_server import OllamaServer

pytestmark = [
    pytest.mark.contract,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root"),
]


def mount(options: str, folder: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


@pytest.fixture
def small_ollama() -> Iterator[OllamaServer]:
    """An Ollama whose models folder takes 48 MB."""
    server = OllamaServer()
    server.models.mkdir(parents=True)
    mount("size=48m", server.models)
    try:
        server.start()
        yield server
    finally:
        server.child.stop()
        subprocess.run(["umount", str(server.models)], check=True)
        server.stop()


async def test_a_full_disk_is_named_and_left_when_there_is_room(
    small_ollama: OllamaServer, model_registry: ModelRegistry, tmp_path: Path
) -> None:
    async with AgentRig(
        tmp_path,
        ollama=small_ollama.url,
        digest=model_registry.digest(MODEL),
        pull_name=f"{model_registry.address}/library/{MODEL}",
        retry_seconds=0.02,
        retry_max_seconds=0.1,
    ) as agent:
        full = await agent.phase("Failed", "DiskFull")
        assert "no space left" in full.message and "storage.size" in full.message
        assert (await agent.get("/readyz", token=None))[0] == 503
        mount("remount,size=300m", small_ollama.models)
        await agent.phase("Ready")


async def test_a_wrong_model_that_fills_the_disk_makes_room_for_the_right_one(
    small_ollama: OllamaServer, model_registry: ModelRegistry, tmp_path: Path
) -> None:
    """The tag had moved to a big model, which was pulled; now it is back, and both do not fit."""
    mount("remount,size=300m", small_ollama.models)
    wanted = model_registry.digest(MODEL)
    wrong = model_registry.tag("gemma3:270m", "moving:1")
    async with AgentRig(
        tmp_path,
        ollama=small_ollama.url,
        digest=wanted,
        pull_name=f"{model_registry.address}/library/moving:1",
        retry_seconds=0.02,
        retry_max_seconds=0.1,
    ) as agent:
        assert (await agent.phase("Failed", "TagMoved")).digest == wrong
        model_registry.tag(MODEL, "moving:1")
        await agent.phase("Failed", "DiskFull")
        assert (await agent.phase("Ready")).digest == wanted
