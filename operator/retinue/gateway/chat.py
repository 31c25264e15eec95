"""POST /v1/chat/completions: from a client's request to the answer of a model pod, streamed or whole."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import aiohttp
import orjson

from retinue.domain.chat_request import parse_chat_request
from retinue.domain.chat_translation import (
    ChatStream,
    Identity,
    chat_reply,
    incomplete,
    upstream_failure,
    upstream_request,
)
from retinue.domain.refusal import Refusal, model_not_found
from retinue.domain.routing import Route, RouteTable
from retinue.gateway.account import Account, Ledger
from retinue.gateway.disconnect import Receive, WhileConnected
from retinue.gateway.upstream import Exchange, Upstream
from retinue.gateway.wire import EVENTS, Scope, Send, decode_json, read_body, send_json

UPSTREAM_PATH: Final = "/api/chat"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request, in seconds and bytes."""

    body_bytes: int
    body_seconds: float
    first_byte_seconds: float
    total_seconds: float


class ChatCompletions:
    """The endpoint. Reads the route table once per request, so that a switch never mixes two revisions in one."""

    def __init__(self, routes: Callable[[], RouteTable], upstream: Upstream, ledger: Ledger, limits: Limits) -> None:
        self._routes = routes
        self._upstream = upstream
        self._ledger = ledger
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send, account: Account) -> None:
        """Answer one request. Raises Refusal before anything was sent, ClientGone when there is nobody to answer."""
        body = await read_body(scope, receive, limit=self._limits.body_bytes, seconds=self._limits.body_seconds)
        request = parse_chat_request(decode_json(body))
        account.stream = request.stream
        route = self._routes().find(request.model)
        if route is None:
            raise model_not_found(request.model)
        account.route = route
        revision = route.serving()
        payload = orjson.dumps(upstream_request(request, revision, route.constants))
        identity = Identity(account.request_id, request.model, revision.name, int(time.time()))
        account.asked = self._ledger.clock()
        call = _Call(receive, send, account, route, payload, identity)
        if request.stream:
            await self._stream(call, ChatStream(identity, include_usage=request.include_usage))
        else:
            await self._whole(call)

    async def _whole(self, call: "_Call") -> None:
        async with WhileConnected(call.receive):
            try:
                async with asyncio.timeout(self._limits.total_seconds):
                    async with await self._upstream.ask(call.route, UPSTREAM_PATH, call.payload) as exchange:
                        call.account.pod = exchange.target.name
                        raw = await exchange.read()
            except TimeoutError:
                raise _too_slow("the answer", self._limits.total_seconds) from None
            except aiohttp.ClientError:
                raise incomplete() from None
        call.account.upstream_ended = self._ledger.clock()
        document = chat_reply(_object(raw), call.identity, call.account.outcome)
        call.account.status = 200
        await send_json(call.send, 200, document, _headers(call.identity))

    async def _stream(self, call: "_Call", stream: ChatStream) -> None:
        account, send = call.account, call.send
        account.outcome = stream.outcome
        deadline = asyncio.get_running_loop().time() + self._limits.total_seconds
        async with WhileConnected(call.receive):
            exchange = await self._begin(call)
        async with exchange:
            account.pod = exchange.target.name
            account.status = 200
            async with WhileConnected(call.receive):
                headers = EVENTS + _headers(call.identity)
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                last = await self._relay(exchange, stream, call, deadline)
            account.error = stream.outcome.error
            await send({"type": "http.response.body", "body": last, "more_body": False})
            if stream.outcome.finished:
                await exchange.finish()

    async def _begin(self, call: "_Call") -> Exchange:
        seconds = min(self._limits.first_byte_seconds, self._limits.total_seconds)
        try:
            async with asyncio.timeout(seconds):
                return await self._upstream.ask(call.route, UPSTREAM_PATH, call.payload)
        except TimeoutError:
            raise _too_slow("the first token", seconds) from None

    async def _relay(self, exchange: Exchange, stream: ChatStream, call: "_Call", deadline: float) -> bytes:
        """Send events as they come; the last ones are returned instead, because they also end the answer."""
        try:
            async with asyncio.timeout_at(deadline):
                async for piece in exchange.pieces():
                    events = stream.feed(piece)
                    if call.account.first_token is None and stream.begun:
                        call.account.first_token = self._ledger.clock()
                    if stream.ended:
                        break
                    if events:
                        await call.send({"type": "http.response.body", "body": events, "more_body": True})
                else:
                    events = stream.end()
        except TimeoutError:
            events = stream.fail(_too_slow("the answer", self._limits.total_seconds))
        except aiohttp.ClientError:
            events = stream.fail(incomplete())
        call.account.upstream_ended = self._ledger.clock()
        return events


@dataclass(frozen=True, slots=True)
class _Call:
    """One request on its way: whom it came from and what is sent upstream."""

    receive: Receive
    send: Send
    account: Account
    route: Route
    payload: bytes
    identity: Identity


def _headers(identity: Identity) -> list[tuple[bytes, bytes]]:
    return [(b"x-request-id", identity.request_id.encode()), (b"retinue-revision", identity.revision.encode())]


def _object(raw: bytes) -> dict[str, object]:
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise upstream_failure(500) from None
    if not isinstance(document, dict):
        raise upstream_failure(500)
    return document


def _too_slow(what: str, seconds: float) -> Refusal:
    return Refusal(504, "deadline_exceeded", f"{what} did not come within {seconds:g} s; try again later")
