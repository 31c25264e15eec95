"""Client of the agents in the model pods: what the operator's probes ask."""

from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from retinue.ollama.client import OllamaClient
from retinue.ollama.errors import AgentRefused, AgentUnreachable, OllamaTimedOut, OllamaUnreachable
from retinue.ollama.replies import OneToken


@dataclass(frozen=True, slots=True)
class AgentPull:
    """Progress of a pull that is under way."""

    completed_bytes: int
    total_bytes: int
    started_at: str


@dataclass(frozen=True, slots=True)
class AgentToken:
    """The last token that Ollama produced, for a client or for a check."""

    at: str
    tokens_per_second: float | None
    latency_ms: float | None


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """The agent's `/status`. Unknown fields are ignored, so an operator can read older and newer agents."""

    phase: str
    """Starting, Pulling, Verifying, Loading, Warming, Ready or Failed."""
    reason: str
    """Empty, or why it is not getting on: ModelUnknown, TagMoved, DiskFull, ..."""
    message: str
    model: str
    digest: str
    """What is on disk, or empty."""
    wanted_digest: str
    pull: AgentPull | None
    loaded: bool
    processor: str | None
    vram_bytes: int | None
    in_flight: int
    queued: int
    slots: int
    ollama_version: str
    last_token: AgentToken | None
    started_at: str

    @property
    def ready(self) -> bool:
        """Whether the pod serves."""
        return self.phase == "Ready"

    @classmethod
    def read(cls, raw: dict[str, Any]) -> "AgentStatus":
        """From the JSON of `/status`. Raises KeyError, TypeError or ValueError if it is something else."""
        pull, token = raw.get("pull"), raw.get("lastToken")
        return cls(
            phase=str(raw["phase"]),
            reason=str(raw.get("reason") or ""),
            message=str(raw.get("message") or ""),
            model=str(raw.get("model") or ""),
            digest=str(raw.get("digest") or ""),
            wanted_digest=str(raw.get("wantedDigest") or ""),
            pull=AgentPull(int(pull["completedBytes"]), int(pull["totalBytes"]), str(pull["startedAt"]))
            if pull
            else None,
            loaded=bool(raw.get("loaded")),
            processor=raw.get("processor"),
            vram_bytes=raw.get("vramBytes"),
            in_flight=int(raw.get("inFlight") or 0),
            queued=int(raw.get("queued") or 0),
            slots=int(raw.get("slots") or 0),
            ollama_version=str(raw.get("ollamaVersion") or ""),
            last_token=AgentToken(str(token["at"]), token.get("tokensPerSecond"), token.get("latencyMs"))
            if token
            else None,
            started_at=str(raw.get("startedAt") or ""),
        )


class AgentClient:
    """Asks agents with the data-plane credential. One per process, for all pods."""

    def __init__(self, session: aiohttp.ClientSession, credential: str, *, seconds: float = 5.0) -> None:
        """`credential` is the bearer token whose SHA-256 the agents hold; `seconds` the deadline of a status."""
        self._session = session
        self._headers = {"Authorization": f"Bearer {credential}"}
        self._seconds = seconds

    async def status(self, base_url: str) -> AgentStatus:
        """Read `/status` of one agent. Raises AgentUnreachable, AgentRefused."""
        url = base_url.rstrip("/") + "/status"
        timeout = aiohttp.ClientTimeout(total=self._seconds)
        try:
            async with self._session.get(url, headers=self._headers, timeout=timeout, allow_redirects=False) as reply:
                content = await reply.read()
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            cause = getattr(error, "strerror", None) or type(error).__name__
            raise AgentUnreachable(f"{base_url} does not answer: {cause}") from None
        if reply.status != 200:
            raise AgentRefused(f"{url} answered {reply.status}")
        try:
            return AgentStatus.read(orjson.loads(content))
        except (KeyError, TypeError, ValueError) as error:
            raise AgentRefused(f"{url} answered no agent status: {type(error).__name__}") from None

    async def generate_one(
        self, base_url: str, model: str, constants: dict[str, Any], *, seconds: float = 60.0
    ) -> OneToken:
        """One token through the agent, with the request constants of its ModelServer.

        Raises AgentUnreachable; OllamaBusy if the pod is full or not ready; other OllamaErrors as Ollama gave them.
        """
        client = OllamaClient(self._session, base_url, headers=self._headers)
        try:
            return await client.generate_one(model, constants, seconds=seconds)
        except (OllamaUnreachable, OllamaTimedOut) as error:
            raise AgentUnreachable(str(error)) from None
