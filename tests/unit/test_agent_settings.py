"""The one document that an agent is told."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from retinue.agent.settings import AgentConfig, AgentSettings

pytestmark = pytest.mark.unit

DOCUMENT: dict[str, Any] = {
    "model": "smollm2:135m",
    "digest": "sha256:" + "a" * 64,
    "pullName": "registry:5000/library/smollm2:135m",
    "insecure": True,
    "constants": {"options": {"num_ctx": 4096}, "shift": False, "keep_alive": -1},
    "slots": 2,
    "queue": 4,
    "credentialFile": "/etc/retinue/agent/sha256",
    "pullSeconds": 3600,
    "loadSeconds": 600,
    "ollama": "http://127.0.0.1:11434",
    "port": 8080,
}


def test_the_operators_document_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETINUE_AGENT_CONFIG", json.dumps({**DOCUMENT, "addedLater": 1}))
    config = AgentSettings().config
    assert config.pull_name == DOCUMENT["pullName"]
    assert config.constants == DOCUMENT["constants"]
    assert (config.slots, config.queue, config.insecure, config.port) == (2, 4, True, 8080)


@pytest.mark.parametrize("field", ["model", "digest", "pullName", "credentialFile"])
def test_what_the_agent_cannot_guess_must_be_there(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        AgentConfig.model_validate({key: value for key, value in DOCUMENT.items() if key != field})


def test_a_digest_must_be_a_whole_sha256() -> None:
    with pytest.raises(ValidationError, match="digest"):
        AgentConfig.model_validate({**DOCUMENT, "digest": "sha256:abc"})
