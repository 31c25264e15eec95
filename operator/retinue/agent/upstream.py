"""The byte path to Ollama: one request out, its bytes back as they come, cancelled when the client leaves."""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import aiohttp

from retinue.agent.http import ClientLeft, Refusal, Send

_TIMINGS: Final = re.compile(
    rb'"(load_duration|prompt_eval_count|prompt_eval_duration|eval_count|eval_duration)":(\d+)'
)
_TAIL_BYTES: Final = 1024
"""Ollama's counters are the last fields of the last line, so this much of the end is kept."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """How a request to Ollama ended."""

    status: int
    complete: bool
    """False: Ollama broke off in the middle, and so must we."""
    tail: bytes

    def timings(self) -> dict[str, int]:
        """Ollama's counters and durations in ns; empty if the reply carries none."""
        return {name.decode(): int(value) for name, value in _TIMINGS.findall(self.tail)}


class Upstream:
    """Ollama on loopback."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        *,
        hung_seconds: float,
        write_seconds: float,
        on_lost: Callable[[], None],
        on_hung: Callable[[], None],
    ) -> None:
        """`on_lost` is called when a connection breaks, `on_hung` when no request at all got a byte for long."""
        self._session = session
        self._base = base_url.rstrip("/")
        self._hung_seconds = hung_seconds
        self._write_seconds = write_seconds
        self._on_lost = on_lost
        self._on_hung = on_hung
        self._last_byte = time.monotonic()
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=hung_seconds)

    async def forward(self, method: str, path: str, body: bytes | None, send: Send) -> Exchange:
        """Send one request and stream the reply to the client, all but the end of the response.

        The caller ends the response when it has given back what it holds. Raises Refusal if nothing was sent to the
        client yet, ClientLeft if it does not take what it is sent.
        """
        try:
            return await self._exchange(method, path, body, send)
        except TimeoutError:
            self._silence()
            raise Refusal(504, "OllamaTimedOut", f"Ollama sent nothing for {self._hung_seconds:g} s") from None
        except aiohttp.ServerDisconnectedError:
            # A kept connection that Ollama closed meanwhile: nothing was answered, so asking once more is safe.
            try:
                return await self._exchange(method, path, body, send)
            except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
                raise self._lost(error) from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise self._lost(error) from None

    async def _exchange(self, method: str, path: str, body: bytes | None, send: Send) -> Exchange:
        headers = {"Host": "localhost"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        request = self._session.request(
            method, self._base + path, data=body, headers=headers, timeout=self._timeout, allow_redirects=False
        )
        # Leaving this block before the end of the body closes the connection, and Ollama then stops generating.
        async with request as answer:
            self._last_byte = time.monotonic()
            await send({"type": "http.response.start", "status": answer.status, "headers": _headers(answer)})
            tail = b""
            try:
                async for chunk in answer.content.iter_any():
                    self._last_byte = time.monotonic()
                    tail = (tail + chunk)[-_TAIL_BYTES:]
                    await self._deliver(send, chunk)
            except TimeoutError:
                self._silence()
                return Exchange(answer.status, False, tail)
            except (aiohttp.ClientError, ConnectionError):
                self._on_lost()
                return Exchange(answer.status, False, tail)
            return Exchange(answer.status, True, tail)

    async def _deliver(self, send: Send, chunk: bytes) -> None:
        try:
            async with asyncio.timeout(self._write_seconds):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError:
            # It keeps its connection open and reads nothing: as good as gone, and it holds a slot.
            raise ClientLeft from None

    def _silence(self) -> None:
        if time.monotonic() - self._last_byte >= self._hung_seconds:
            self._on_hung()

    def _lost(self, error: Exception) -> Refusal:
        self._on_lost()
        return Refusal(502, "OllamaUnreachable", f"Ollama did not answer: {type(error).__name__}", retry_after=1)


def _headers(answer: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
    """Of Ollama's headers only those that the client needs."""
    found = {name: answer.headers.get(name) for name in ("Content-Type", "Content-Length", "Retry-After")}
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in found.items() if value]
