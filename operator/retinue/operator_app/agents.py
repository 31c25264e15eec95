"""The credential for agents, from a mounted Secret that may be rotated while the operator runs."""

from pathlib import Path
from typing import Any

import aiohttp
import structlog

from retinue.ollama.agent_client import AgentClient, AgentStatus
from retinue.ollama.replies import OneToken

log = structlog.get_logger(__name__)


class RotatingAgents:
    """An AgentClient that follows its credential file. Implements `retinue.reconcile.health.Agents`."""

    def __init__(self, session: aiohttp.ClientSession, credential_file: Path | None) -> None:
        self._session = session
        self._file = credential_file
        self._seen: tuple[int, int] | None = None
        self._client = AgentClient(session, "")

    async def status(self, base_url: str) -> AgentStatus:
        """See AgentClient."""
        return await self._current().status(base_url)

    async def generate_one(
        self, base_url: str, model: str, constants: dict[str, Any], *, seconds: float = 60.0
    ) -> OneToken:
        """See AgentClient."""
        return await self._current().generate_one(base_url, model, constants, seconds=seconds)

    def _current(self) -> AgentClient:
        """The client for the file as it is now. A Secret is a small local file: reading it blocks nobody."""
        if self._file is None:
            return self._client
        try:
            found = self._file.stat()
            seen = (found.st_mtime_ns, found.st_ino)
            if seen != self._seen:
                self._client = AgentClient(self._session, self._file.read_text().strip())
                self._seen = seen
        except OSError as error:
            log.warning("the credential for agents cannot be read", file=str(self._file), cause=error.strerror)
        return self._client
