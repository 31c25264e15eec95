"""A running agent before a real Ollama, for tests: `async with AgentRig(...) as agent: await agent.phase("Ready")`."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from retinue.agent.run import serve
from retinue.agent.settings import AgentConfig
from retinue.domain.inference import with_constants
from retinue.ollama.agent_client import AgentClient, AgentStatus
from retinue.ollama.client import new_session

CREDENTIAL = "the data-plane credential of this test"
CONSTANTS: dict[str, Any] = {"options": {"num_ctx": 2048}, "keep_alive": -1}
MODEL = "smollm2:135m"

Answer = tuple[int, dict[str, str], bytes]


class AgentRig:
    """One agent in this process, with short intervals; keyword arguments go into its configuration."""

    def __init__(self, folder: Path, *, ollama: str, digest: str, pull_name: str = MODEL, **config: Any) -> None:
        self.credential_file = folder / "sha256"
        self.credential_file.write_text(hashlib.sha256(CREDENTIAL.encode()).hexdigest() + "\n")
        wanted: dict[str, Any] = {
            "model": MODEL,
            "digest": digest,
            "pull_name": pull_name,
            "insecure": True,
            "constants": CONSTANTS,
            "credential_file": str(self.credential_file),
            "ollama": ollama,
            "host": "127.0.0.1",
            "port": 0,
            "poll_seconds": 0.1,
            "retry_seconds": 0.1,
            "retry_max_seconds": 0.5,
            "drain_grace_seconds": 0,
        }
        self.config = AgentConfig(**(wanted | config))
        self.seen: list[tuple[str, str]] = []
        """Phases and reasons in the order in which `until` saw them."""

    async def __aenter__(self) -> Self:
        self.session = new_session()
        self.client = AgentClient(self.session, CREDENTIAL)
        self._stop = asyncio.Event()
        listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.serving = asyncio.create_task(serve(self.config, self._stop, listening=listening))
        either: set[asyncio.Future[Any]] = {self.serving, listening}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        self.url = f"http://127.0.0.1:{listening.result()}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        await self.serving
        await self.session.close()

    def terminate(self) -> None:
        """What SIGTERM does."""
        self._stop.set()

    async def status(self) -> AgentStatus:
        """The agent's own view."""
        return await self.client.status(self.url)

    async def until(self, wanted: Callable[[AgentStatus], bool], seconds: float = 60) -> AgentStatus:
        """Look until `wanted` holds; the whole history is in the error if it never does."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    status = await self.status()
                    if not self.seen or self.seen[-1] != (status.phase, status.reason):
                        self.seen.append((status.phase, status.reason))
                    if wanted(status):
                        return status
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"never seen; phases were {self.seen}, the last status {status}") from None

    async def phase(self, phase: str, reason: str = "") -> AgentStatus:
        """Look until the agent is in that phase for that reason."""
        return await self.until(lambda status: (status.phase, status.reason) == (phase, reason))

    async def until_answer(self, path: str, status: int, *, token: str | None = None, seconds: float = 60) -> None:
        """GET until the answer has that status."""
        async with asyncio.timeout(seconds):
            while (await self.get(path, token=token))[0] != status:  # noqa: ASYNC110 (it is another process's state)
                await asyncio.sleep(0.02)

    async def get(self, path: str, *, token: str | None = CREDENTIAL) -> Answer:
        """GET with or without a token."""
        return await self._ask("GET", path, None, token)

    async def post(self, path: str, body: dict[str, Any] | bytes, *, token: str | None = CREDENTIAL) -> Answer:
        """POST with or without a token."""
        return await self._ask("POST", path, body, token)

    async def chat(self, text: str, tokens: int) -> Answer:
        """A whole streamed chat of at most so many tokens."""
        return await self.post("/api/chat", chat_request(text, tokens))

    @asynccontextmanager
    async def chatting(self, tokens: int) -> AsyncIterator[aiohttp.ClientResponse]:
        """A chat of which the first bytes have arrived; leaving the context leaves the agent."""
        headers = {"Authorization": f"Bearer {CREDENTIAL}"}
        # The model would stop by itself after some dozen tokens; the schema does not let it.
        schema = {"type": "array", "items": {"type": "integer"}, "minItems": 2000}
        request = {**chat_request("Count from one to a thousand.", tokens), "format": schema}
        async with self.session.post(self.url + "/api/chat", json=request, headers=headers) as reply:
            assert reply.status == 200, await reply.read()
            await reply.content.readany()
            yield reply
            reply.close()

    async def metric(self, name: str) -> float:
        """Value of one line of /metrics, 0 if it is not there."""
        _, _, text = await self.get("/metrics", token=None)
        lines = (line.rpartition(" ") for line in text.decode().splitlines())
        return next((float(value) for key, _, value in lines if key == name), 0.0)

    async def _ask(self, method: str, path: str, body: dict[str, Any] | bytes | None, token: str | None) -> Answer:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        content: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body} if body else {}
        async with self.session.request(method, self.url + path, headers=headers, **content) as reply:
            return reply.status, {k.lower(): v for k, v in reply.headers.items()}, await reply.read()


def chat_request(text: str, tokens: int) -> dict[str, Any]:
    """A request for `/api/chat` that goes on for exactly so many tokens, or until the model stops by itself."""
    request = {
        "model": MODEL,
        "messages": [{"role": "user", "content": text}],
        "options": {"temperature": 0, "seed": 1, "num_predict": tokens, "stop": []},
    }
    return with_constants(request, CONSTANTS)
