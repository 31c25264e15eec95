"""The gateway as one ASGI application: which path does what, who may, and what happens when it goes wrong."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from retinue.domain.refusal import Refusal, model_not_found
from retinue.domain.routing import Route, RouteTable
from retinue.gateway.account import Account, Ledger
from retinue.gateway.disconnect import ClientGone, Receive
from retinue.gateway.health import Health
from retinue.gateway.secrets import TokenCheck
from retinue.gateway.wire import Scope, Send, header, send_bytes, send_json, send_refusal

Endpoint = Callable[[Scope, Receive, Send, Account], Awaitable[None]]

CHAT: Final = "/v1/chat/completions"
MODELS: Final = "/v1/models"
CLIENT_GONE: Final = 499
"""What logs and rows say when the client left before there was a status; no client ever sees it."""


class Gateway:
    """Serves clients under /v1, and probes and metrics beside it. Only /v1 needs a token."""

    def __init__(
        self,
        *,
        routes: Callable[[], RouteTable],
        tokens: TokenCheck,
        chat: Endpoint,
        health: Health,
        ledger: Ledger,
        max_requests: int,
    ) -> None:
        self._routes = routes
        self._tokens = tokens
        self._health = health
        self._ledger = ledger
        self._max_requests = max_requests
        self._in_work = 0
        self._log = structlog.get_logger(__name__)
        self._api: dict[str, tuple[str, Endpoint]] = {CHAT: ("POST", chat), MODELS: ("GET", self._models)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; nothing but cancellation leaves it."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path in self._api or path.startswith("/v1/"):
            await self._serve(scope, receive, send, path)
        else:
            await self._operate(scope, send, path)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        name = path if path in self._api else MODELS if path.startswith(MODELS + "/") else "other"
        account = self._ledger.open(name)
        sent = _Sent(send)
        self._in_work += 1
        self._ledger.metrics.in_flight.inc()
        try:
            self._admit(scope)
            await self._endpoint(scope, path)(scope, receive, sent, account)
            account.status = account.status or sent.status
        except Refusal as refusal:
            account.status, account.error = refusal.status, refusal.code
            await send_refusal(sent, refusal, [(b"x-request-id", account.request_id.encode())])
        except ClientGone:
            account.status, account.error = account.status or CLIENT_GONE, "client_gone"
        except asyncio.CancelledError:
            # The server stops and its patience is over. Not raised again, because this is where the task ends anyway
            # and uvicorn would log a traceback; it closes the connection when it sees that the answer is not complete.
            account.status, account.error = account.status or 503, "shutdown"
        except Exception as error:  # noqa: BLE001 (the last line of defence: no traceback reaches a client or a log)
            account.status, account.error = sent.status or 500, "internal_error"
            self._log.error(
                "request_failed", request_id=account.request_id, kind=type(error).__name__, where=_where(error)
            )
            if not sent.status:
                await send_refusal(sent, Refusal(500, "internal_error", "the gateway failed; this is not your mistake"))
            else:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._in_work -= 1
            self._ledger.metrics.in_flight.dec()
            self._ledger.settle(account)

    def _admit(self, scope: Scope) -> None:
        if not self._tokens.allows(header(scope, b"authorization")):
            raise Refusal(401, "invalid_api_key", "no valid bearer token; send Authorization: Bearer <token>")
        if self._in_work > self._max_requests:
            raise Refusal(503, "overloaded", "the gateway has too many requests in work; try again", retry_after=1)

    def _endpoint(self, scope: Scope, path: str) -> Endpoint:
        method, endpoint = self._api.get(path) or ("GET", self._model)
        if path not in self._api and not path.startswith(MODELS + "/"):
            raise Refusal(404, "unknown_url", f"there is no {path[:128]!r} here")
        if scope["method"] != method:
            raise Refusal(405, "method_not_allowed", f"{path[:128]!r} only takes {method}")
        return endpoint

    async def _models(self, scope: Scope, receive: Receive, send: Send, account: Account) -> None:
        table = self._routes()
        data = [_model(route) for _, route in sorted(table.routes.items()) if route.revision is not None]
        await send_json(send, 200, {"object": "list", "data": data})

    async def _model(self, scope: Scope, receive: Receive, send: Send, account: Account) -> None:
        name = scope["path"].removeprefix(MODELS + "/")
        route = self._routes().find(name)
        if route is None or route.revision is None:
            raise model_not_found(name)
        await send_json(send, 200, _model(route))

    async def _operate(self, scope: Scope, send: Send, path: str) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await send_refusal(send, Refusal(405, "method_not_allowed", "only GET is possible here"))
        elif path == "/metrics":
            page, content_type = self._ledger.metrics.render()
            await send_bytes(send, 200, page, [(b"content-type", content_type.encode())])
        elif (answer := self._health.answer(path, verbose=scope["query_string"].startswith(b"verbose"))) is not None:
            await send_bytes(send, answer[0], answer[1].encode(), [(b"content-type", b"text/plain; charset=utf-8")])
        else:
            await send_refusal(send, Refusal(404, "unknown_url", f"there is no {path[:128]!r} here"))


class _Sent:
    """Passes messages on and remembers the status line, without which an error cannot be told from a broken stream."""

    __slots__ = ("_send", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def _model(route: Route) -> dict[str, Any]:
    return {"id": route.model_id, "object": "model", "created": route.created, "owned_by": route.namespace}


def _where(error: BaseException) -> str:
    """File and line of the failure: enough to find it, and no value of any variable."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace is not None else ""
