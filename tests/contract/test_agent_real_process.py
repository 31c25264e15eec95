"""`retinue agent` as the process that runs in a pod: settings from the environment, JSON logs, SIGTERM, memory."""

import asyncio
import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from agent_rig import CONSTANTS, CREDENTIAL, MODEL, chat_request
from retinue.ollama.agent_client import AgentClient
from retinue.ollama.client import OllamaClient, new_session
from retinue.ollama.errors import AgentUnreachable
from testbed.child import Child, free_port
from testbed.ollama_server import OllamaServer

pytestmark = pytest.mark.contract

SECRET_PROMPT = "the colour of my safe's door is mauve"
MEGABYTES = 96
"""What the agent's container may be given; a process that needs more has grown an import or a leak."""


def start(config: dict[str, object], folder: Path) -> Child:
    environment = {"PATH": os.environ["PATH"], "RETINUE_AGENT_CONFIG": json.dumps(config)}
    return Child([Path(sys.executable).parent / "retinue", "agent"], log=folder / "agent.log", env=environment)


async def test_the_command_serves_logs_no_content_and_ends_cleanly_on_sigterm(
    ollama: OllamaServer, tmp_path: Path
) -> None:
    credential_file = tmp_path / "sha256"
    async with new_session() as session:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        config: dict[str, object] = {
            "model": MODEL,
            "digest": await OllamaClient(session, ollama.url).digest_of(MODEL),
            "pullName": MODEL,
            "constants": CONSTANTS,
            "credentialFile": str(credential_file),
            "ollama": ollama.url,
            "port": port,
            "pollSeconds": 0.1,
            "drainGraceSeconds": 0,
        }
        child = start(config, tmp_path)
        try:
            credential_file.write_text(hashlib.sha256(CREDENTIAL.encode()).hexdigest())
            agent = AgentClient(session, CREDENTIAL)
            async with asyncio.timeout(60):
                while True:
                    try:
                        if (await agent.status(url)).ready:
                            break
                    except AgentUnreachable:
                        assert child.alive(), child.tail()
                    await asyncio.sleep(0.05)
            headers = {"Authorization": f"Bearer {CREDENTIAL}"}
            request = {**chat_request(SECRET_PROMPT, 8), "stream": False}
            async with session.post(f"{url}/api/chat", json=request, headers=headers) as reply:
                completion = (await reply.json())["message"]["content"]
            async with session.post(f"{url}/api/chat", data=SECRET_PROMPT.encode(), headers=headers) as reply:
                assert reply.status == 400
            assert psutil.Process(child.pid).memory_info().rss < MEGABYTES * 2**20
        finally:
            child.send(signal.SIGTERM)
            await asyncio.to_thread(child._process.wait, 20)
    assert child._process.returncode == 0
    child.stop()
    log = child.log.read_text()
    records = [json.loads(line) for line in log.splitlines()]
    assert [r["phase"] for r in records if r["event"] == "phase"][-1] == "Ready"
    assert {"listening", "draining", "drained"} <= {r["event"] for r in records}
    for secret in (SECRET_PROMPT, CREDENTIAL, completion.strip()):
        assert secret not in log


def test_a_document_that_cannot_be_used_is_refused_with_the_field(tmp_path: Path) -> None:
    child = start({"model": MODEL, "digest": "sha256:short", "pullName": MODEL, "credentialFile": "x"}, tmp_path)
    child._process.wait(30)
    assert child._process.returncode == 2
    assert child.tail().startswith("RETINUE_AGENT_CONFIG: config.digest: ")
    child.stop()
