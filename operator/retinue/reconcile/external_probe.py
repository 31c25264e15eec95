"""The agent's checks for an external server, which has no agent: the operator does them itself."""

from typing import Final

from retinue.domain.health import Target
from retinue.ollama.agent_client import AgentStatus
from retinue.ollama.client import OllamaClient
from retinue.ollama.names import canonical

_SECONDS: Final = 5.0
"""Deadline of each call."""


async def external_status(client: OllamaClient, target: Target) -> AgentStatus:
    """What an agent would say of this server. Raises OllamaError when it does not answer.

    How busy the server is cannot be asked; its one-token generations are as rare as those of pods.
    """
    version = await client.version(seconds=_SECONDS)
    digest = await client.digest_of(target.model, seconds=_SECONDS)
    wanted = canonical(target.model)
    loaded = next((m for m in await client.ps(seconds=_SECONDS) if canonical(m.name) == wanted), None)
    if not digest:
        phase, reason, message = "Failed", "ModelUnknown", f"{target.model} is not on this server"
    elif digest != target.model_digest:
        phase, reason, message = "Failed", "DigestDiffers", f"{target.model} is {digest} on this server"
    else:
        phase, reason, message = "Ready", "", ""
    return AgentStatus(
        phase=phase,
        reason=reason,
        message=message,
        model=target.model,
        digest=digest,
        wanted_digest=target.model_digest,
        pull=None,
        loaded=loaded is not None,
        processor=loaded.processor if loaded else None,
        vram_bytes=loaded.vram_bytes if loaded else None,
        in_flight=0,
        queued=0,
        slots=0,
        ollama_version=version,
        last_token=None,
        started_at="",
    )
