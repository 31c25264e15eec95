"""The connection to model pods: one shared client, one retry before the first byte, nothing followed or decoded."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self

import aiohttp

from retinue.domain.chat_translation import upstream_failure
from retinue.domain.refusal import Refusal
from retinue.domain.routing import Route, Target
from retinue.gateway.balance import Balancer
from retinue.gateway.secrets import SecretFile

KEEP_ALIVE_SECONDS: Final = 60.0
"""Idle connections are dropped before the agent does it (after 75 s), so that few are closed under us."""
ATTEMPTS: Final = 2
"""Pods that one request is offered to before anything has been received."""
NOT_BEGUN: Final = frozenset({502, 503})
"""Statuses that say that nothing was computed: the pod is full or not ready, or its agent could not reach Ollama."""
REPLY_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of a reply that is not streamed; an answer is far smaller."""
FINISH_SECONDS: Final = 1.0
"""How long the end of a body is waited for after its last line, to keep the connection."""


class Unreachable(Exception):
    """A pod could not be asked; nothing was received from it."""

    def __init__(self, *, refused: bool) -> None:
        super().__init__()
        self.refused = refused
        """True: no connection was made. False: one was lost, perhaps a kept one that the pod closed at that moment."""


class Exchange:
    """One request that a pod has begun to answer. Use as a context manager: leaving it frees the pod's place.

    Leaving it before the body has ended closes the connection, which is how Ollama learns that nobody listens.
    """

    def __init__(self, target: Target, response: aiohttp.ClientResponse, balancer: Balancer) -> None:
        self.target = target
        self.response = response
        self._balancer = balancer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.response.close()
        self._balancer.give_back(self.target)

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes, in whatever pieces the network made."""
        return self.response.content.iter_any()

    async def read(self) -> bytes:
        """The whole body. Raises Refusal (502) if it is longer than any answer."""
        parts, size = [], 0
        async for piece in self.pieces():
            size += len(piece)
            if size > REPLY_LIMIT:
                raise upstream_failure(500)
            parts.append(piece)
        return b"".join(parts)

    async def finish(self) -> None:
        """Read the little that is left after the last line, so that the connection can be used again."""
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                async for _ in self.pieces():
                    pass
        except (TimeoutError, aiohttp.ClientError):
            self.response.close()


class Upstream:
    """All connections of one gateway to model pods and external servers."""

    def __init__(self, balancer: Balancer, credential: SecretFile | None, *, connect_seconds: float) -> None:
        self._balancer = balancer
        self._credential = credential
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept"),
            timeout=self._timeout,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, route: Route, path: str, body: bytes) -> Exchange:
        """Send `body` to the pod with the fewest requests in flight; the exchange begins with its status line.

        A pod that cannot be reached, closes before it said anything, or answers 502 or 503 is given up for another
        one, once. Raises Refusal: 503 when no pod could take it, else what the pod's status means for the client.
        """
        tried: list[str] = []
        busy: Refusal | None = None
        lost: Target | None = None
        for _ in range(ATTEMPTS):
            target = self._balancer.take(route.targets, tried) or (lost and self._balancer.take((lost,)))
            if target is None:
                break
            tried.append(target.url)
            lost = None
            try:
                exchange = await self._begin(target, path, body)
            except Unreachable as problem:
                if problem.refused:
                    self._balancer.avoid(target)
                else:
                    lost = target
                continue
            status = exchange.response.status
            if status == 200:
                return exchange
            async with exchange:
                refusal = upstream_failure(status)
                if status not in NOT_BEGUN:
                    raise refusal
                refusal.retry_after = _seconds(exchange.response.headers.get("Retry-After")) or refusal.retry_after
                busy = refusal
        raise busy or Refusal(
            503,
            "pods_unreachable",
            f"no model pod of assistant {route.model_id!r} could be reached; try again later",
            retry_after=2,
        )

    async def _begin(self, target: Target, path: str, body: bytes) -> Exchange:
        assert self._session is not None, "Upstream is used outside of its context"
        headers = {"Content-Type": "application/json"}
        if self._credential is not None and not target.external and (lines := self._credential.lines()):
            headers["Authorization"] = f"Bearer {lines[0].decode()}"
        exchange = None
        try:
            response = await self._session.post(target.url + path, data=body, headers=headers, allow_redirects=False)
            exchange = Exchange(target, response, self._balancer)
            return exchange
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise Unreachable(refused=True) from None
        except aiohttp.ClientConnectionError:
            raise Unreachable(refused=False) from None
        except aiohttp.ClientError:
            raise upstream_failure(502) from None
        finally:
            if exchange is None:
                self._balancer.give_back(target)


def _seconds(value: str | None) -> int | None:
    return min(int(value), 3600) if value is not None and value.isdigit() else None
