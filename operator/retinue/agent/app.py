"""The routes of the agent, as one bare ASGI application.

Everything that is not in the two tables is 404. Nothing of a request or a reply is logged.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import orjson
import structlog

from retinue.agent.admission import Admission, ByteBudget, Full
from retinue.agent.credentials import CredentialFile
from retinue.agent.http import Body, ClientLeft, Receive, Refusal, Scope, Send, header, refuse, reply
from retinue.agent.metrics import AgentMetrics
from retinue.agent.settings import AgentConfig
from retinue.agent.state import LastToken, ServerState, now
from retinue.agent.upstream import Exchange, Upstream

_log = structlog.get_logger("retinue.agent")

JSON: Final = b"application/json"
TEXT: Final = b"text/plain; charset=utf-8"

INFERENCE: Final = frozenset({"/api/chat", "/api/generate", "/api/embed"})
"""POST, bounded, only while the pod serves."""
POSTS: Final = INFERENCE | {"/api/show"}
GETS: Final = frozenset({"/api/ps", "/api/tags", "/api/version"})
OPEN: Final = frozenset({"/livez", "/livez/ollama", "/readyz", "/metrics"})
"""GET without a credential: they tell nothing but numbers."""


@dataclass(frozen=True, slots=True)
class AgentApp:
    """ASGI application of one agent."""

    config: AgentConfig
    state: ServerState
    admission: Admission
    budget: ByteBudget
    credentials: CredentialFile
    upstream: Upstream
    metrics: AgentMetrics
    alive: Callable[[], bool]
    """Whether the keeper is at work."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"]
        if method == "GET" and path in OPEN:
            await self._open(path, send)
            return
        known = (method == "GET" and (path in GETS or path == "/status")) or (method == "POST" and path in POSTS)
        route = path if known else "other"
        try:
            if not known:
                raise Refusal(404, "NotFound", "no such route")
            if not self.credentials.accepts(header(scope, b"authorization")):
                raise Refusal(401, "Unauthorized", "the bearer token is not one that this pod accepts")
            if path == "/status":
                await reply(send, 200, orjson.dumps(self.state.view(self.admission)), JSON)
                return
            exchange = await self._proxy(scope, receive, send, method, path)
            code = str(exchange.status) if exchange.complete else "broken"
            if exchange.complete:
                await send({"type": "http.response.body", "body": b""})
            # Otherwise the response stays unfinished on purpose: the server then breaks the connection, so that the
            # client does not take half an answer for a whole one.
        except Refusal as refusal:
            code = str(refusal.status)
            self.metrics.rejected.labels(refusal.reason).inc()
            await refuse(send, refusal)
        except ClientLeft:
            code = "499"
        except asyncio.CancelledError:
            # The drain is over. If the response has begun already, it is broken off instead.
            code = "cut"
            with contextlib.suppress(RuntimeError):
                await refuse(send, Refusal(503, "Draining", "the pod is going away", retry_after=1))
        except Exception as error:  # noqa: BLE001 (one request, not the pod)
            code = "500"
            _log.error("request.defect", route=route, exc_info=error)
            with contextlib.suppress(RuntimeError):
                await refuse(send, Refusal(500, "Defect", "the agent could not handle this request"))
        self.metrics.requests.labels(route, code).inc()

    async def _open(self, path: str, send: Send) -> None:
        state = self.state
        if path == "/metrics":
            body, content_type = self.metrics.render()
            await reply(send, 200, body, content_type.encode())
            return
        if path == "/readyz":
            good, why = state.ready, "draining" if state.draining else f"{state.phase.value} {state.reason}".strip()
        elif path == "/livez":
            good, why = self.alive(), "the keeper has ended"
        else:
            good, why = not state.hung, "Ollama accepts requests and answers none"
        await reply(send, 200 if good else 503, b"ok" if good else why.encode(), TEXT)

    async def _proxy(self, scope: Scope, receive: Receive, send: Send, method: str, path: str) -> Exchange:
        if path not in INFERENCE:
            if method == "GET":
                return await self.upstream.forward(method, path, None, send)
            with self._body(scope, receive) as body:
                return await self.upstream.forward(method, path, await body.read(), send)
        self._must_serve()
        try:
            ticket = self.admission.enter()
        except Full as full:
            raise Refusal(503, "Busy", str(full), retry_after=full.retry_after) from None
        with ticket, self._body(scope, receive) as body:
            content = await body.read()
            async with _until_client_leaves(receive):
                await ticket.turn()
                # The pod may have lost its model while this request waited.
                self._must_serve()
                exchange = await self.upstream.forward(method, path, content, send)
        self._count(exchange)
        return exchange

    def _body(self, scope: Scope, receive: Receive) -> Body:
        config = self.config
        return Body(scope, receive, self.budget, limit=config.body_bytes, seconds=config.body_seconds)

    def _must_serve(self) -> None:
        if not self.state.serving:
            why = f"{self.state.phase.value} {self.state.reason}".strip()
            raise Refusal(503, "NotReady", f"the pod does not serve now: {why}", retry_after=1)

    def _count(self, exchange: Exchange) -> None:
        timings = exchange.timings()
        prompt, completion = timings.get("prompt_eval_count", 0), timings.get("eval_count", 0)
        if prompt:
            self.metrics.tokens.labels("prompt").inc(prompt)
        if completion:
            self.metrics.tokens.labels("completion").inc(completion)
            spent = timings.get("eval_duration", 0)
            first = timings.get("load_duration", 0) + timings.get("prompt_eval_duration", 0)
            rate = round(completion / spent * 1e9, 1) if spent else None
            self.state.last_token = LastToken(now(), rate, round(first / 1e6, 1))


@contextlib.asynccontextmanager
async def _until_client_leaves(receive: Receive) -> AsyncIterator[None]:
    """Run the block; when the client disconnects meanwhile, cancel the block and raise ClientLeft."""
    task = asyncio.current_task()
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        left = True
        if task is not None:
            task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        # Only our own cancellation becomes ClientLeft; one from outside (shutdown) goes on.
        if left and task is not None and task.uncancel() == 0:
            raise ClientLeft from None
        raise
    finally:
        watcher.cancel()
