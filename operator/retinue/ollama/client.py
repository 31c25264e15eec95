"""One Ollama server over a shared aiohttp session.

The only place that knows Ollama's routes and error texts. Every call has a deadline and raises only the classes of
`retinue.ollama.errors`. The session belongs to the caller, who opens it once per process.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Final

import aiohttp
import orjson

from retinue.ollama.errors import (
    LoadFailed,
    ModelUnknown,
    NotSupported,
    OllamaError,
    OllamaTimedOut,
    OllamaUnreachable,
    PullFailed,
    PullStalled,
    from_pull,
    from_reply,
)
from retinue.ollama.names import canonical
from retinue.ollama.replies import LoadedModel, OneToken, PullProgress, PullTally, StoredModel

Json = dict[str, Any]

SHORT_SECONDS: Final = 10.0
"""Deadline of calls that Ollama answers from memory or disk."""
CONNECT_SECONDS: Final = 5.0
MAX_LINE: Final = 16 * 1024 * 1024
"""Longest line of a stream that is read, in bytes."""


def new_session() -> aiohttp.ClientSession:
    """A session as this package wants it: no connection limit, bytes as they come, no cookies."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=10),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity"},
    )


class OllamaClient:
    """Calls to one Ollama server, or to an agent that stands before one."""

    def __init__(
        self, session: aiohttp.ClientSession, base_url: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """`base_url` without a path; `headers` go with every request, for example a bearer token."""
        self._session = session
        self._base = base_url.rstrip("/")
        self._headers = dict(headers or {})

    async def version(self, *, seconds: float = SHORT_SECONDS) -> str:
        """Version of the server, for example `0.24.0`."""
        return str((await self._json("GET", "/api/version", None, seconds)).get("version") or "")

    async def tags(self, *, seconds: float = SHORT_SECONDS) -> list[StoredModel]:
        """Models on disk."""
        reply = await self._json("GET", "/api/tags", None, seconds)
        return [StoredModel.read(raw) for raw in reply.get("models") or []]

    async def digest_of(self, model: str, *, seconds: float = SHORT_SECONDS) -> str:
        """`sha256:...` of the stored model of that name, or empty if it is not on disk."""
        wanted = canonical(model)
        return next((m.digest for m in await self.tags(seconds=seconds) if canonical(m.name) == wanted), "")

    async def ps(self, *, seconds: float = SHORT_SECONDS) -> list[LoadedModel]:
        """Models in memory."""
        reply = await self._json("GET", "/api/ps", None, seconds)
        return [LoadedModel.read(raw) for raw in reply.get("models") or []]

    async def show(self, model: str, *, seconds: float = SHORT_SECONDS) -> Json:
        """Template, parameters, details and capabilities of a stored model. Raises ModelUnknown."""
        return await self._json("POST", "/api/show", {"model": model}, seconds)

    async def copy(self, source: str, destination: str, *, seconds: float = SHORT_SECONDS) -> None:
        """Give a stored model a second name; same manifest, same digest. Raises ModelUnknown."""
        await self._json("POST", "/api/copy", {"source": source, "destination": destination}, seconds)

    async def delete(self, model: str, *, seconds: float = SHORT_SECONDS) -> None:
        """Remove a name, and the files that no other name uses. A name that is not there is no error."""
        with contextlib.suppress(ModelUnknown):
            await self._json("DELETE", "/api/delete", {"model": model}, seconds)

    async def pull(
        self, model: str, *, insecure: bool = False, stall_seconds: float = 60.0
    ) -> AsyncGenerator[PullProgress, None]:
        """Download a model and yield how far it is; ends after success, else raises a PullFailed, ModelUnknown,
        DiskFull or OllamaUnreachable.

        Ollama repeats its last line while a download stands still, so a stall is judged by bytes: `stall_seconds`
        without any stop the pull with PullStalled. Closing the generator stops the download too; what has arrived
        stays on disk.
        """
        tally = PullTally()
        progress = PullProgress("", 0, 0)
        moved = time.monotonic()
        body = {"model": model, "insecure": insecure, "stream": True}
        async with contextlib.aclosing(self._stream("/api/pull", body, stall_seconds, pulling=True)) as lines:
            async for line in lines:
                latest = tally.add(line)
                now = time.monotonic()
                if latest != progress or not latest.downloading:
                    moved = now
                elif now - moved > stall_seconds:
                    raise PullStalled(f"no byte of {model} arrived for {stall_seconds:.0f} s")
                progress = latest
                yield progress
        if progress.status != "success":
            raise PullFailed(f"the pull of {model} ended after {progress.status!r} without success")

    async def stream(self, path: str, body: Json, *, idle_seconds: float) -> AsyncGenerator[Json, None]:
        """Lines of a streaming route (`/api/chat`, `/api/generate`). An error inside the stream is raised like one
        before it; `idle_seconds` is the longest silence that is waited for, else OllamaTimedOut.
        """
        async with contextlib.aclosing(self._stream(path, body, idle_seconds, pulling=False)) as lines:
            async for line in lines:
                yield line

    async def _stream(self, path: str, body: Json, idle_seconds: float, *, pulling: bool) -> AsyncGenerator[Json, None]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        try:
            async with self._session.post(
                self._base + path, data=orjson.dumps(body), headers=self._json_headers(), timeout=timeout
            ) as reply:
                if reply.status >= 300:
                    text = _error_text(await reply.read())
                    raise from_pull(text) if pulling and reply.status >= 500 else from_reply(reply.status, text)
                async for line in _lines(reply.content, idle_seconds):
                    if "error" in line:
                        text = str(line["error"])
                        raise from_pull(text) if pulling else from_reply(500, text)
                    yield line
        except aiohttp.ConnectionTimeoutError as error:
            raise _unreachable(self._base, error) from None
        except TimeoutError:
            text = f"{path} of {self._base} sent nothing for {idle_seconds:g} s"
            raise (PullStalled if pulling else OllamaTimedOut)(text) from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise _unreachable(self._base, error) from None

    async def preload(self, model: str, constants: Json, *, seconds: float) -> None:
        """Load a model with exactly these request constants and keep it. Raises LoadFailed, ModelUnknown."""
        request = {**constants, "model": model, "stream": False}
        try:
            try:
                await self._json("POST", "/api/generate", request, seconds)
            except NotSupported:
                await self._json("POST", "/api/embed", {**request, "input": []}, seconds)
        except OllamaError as error:
            # What a file that is no model makes the runner say has no common wording.
            if type(error) is OllamaError:
                raise LoadFailed(str(error)) from None
            raise

    async def generate_one(self, model: str, constants: Json, *, seconds: float) -> OneToken:
        """Ask for one token (one vector of an embedding model): the proof that the model answers."""
        options = {**constants.get("options", {}), "num_predict": 1, "temperature": 0}
        request = {**constants, "model": model, "stream": False, "options": options}
        started = time.monotonic()
        try:
            reply = await self._json("POST", "/api/generate", {**request, "prompt": "Hi", "raw": True}, seconds)
        except NotSupported:
            reply = await self._json("POST", "/api/embed", {**request, "input": "Hi"}, seconds)
        elapsed = (time.monotonic() - started) * 1000
        return OneToken(
            latency_ms=round(elapsed, 1),
            tokens_per_second=_rate(reply),
            load_ms=round((reply.get("load_duration") or 0) / 1e6, 1),
        )

    def _json_headers(self) -> dict[str, str]:
        return {**self._headers, "Content-Type": "application/json"}

    async def _json(self, method: str, path: str, body: Json | None, seconds: float) -> Json:
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=min(CONNECT_SECONDS, seconds))
        try:
            async with self._session.request(
                method,
                self._base + path,
                data=None if body is None else orjson.dumps(body),
                headers=self._headers if body is None else self._json_headers(),
                timeout=timeout,
                allow_redirects=False,
            ) as reply:
                content = await reply.read()
                if reply.status >= 300:
                    raise from_reply(reply.status, _error_text(content))
        except aiohttp.ConnectionTimeoutError as error:
            raise _unreachable(self._base, error) from None
        except TimeoutError:
            raise OllamaTimedOut(f"{path} of {self._base} gave no reply within {seconds:g} s") from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise _unreachable(self._base, error) from None
        return _object(content, path)


def _unreachable(base: str, error: Exception) -> OllamaUnreachable:
    cause = getattr(error, "strerror", None) or type(error).__name__
    return OllamaUnreachable(f"{base} does not answer: {cause}")


def _object(content: bytes, path: str) -> Json:
    if not content:
        return {}
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise OllamaError(f"{path} answered something that is no JSON object")
    return value


def _error_text(content: bytes) -> str:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return content[:200].decode("utf-8", "replace")
    if isinstance(value, dict) and "error" in value:
        return str(value["error"])
    return content[:200].decode("utf-8", "replace")


def _rate(reply: Json) -> float | None:
    count, nanoseconds = reply.get("eval_count"), reply.get("eval_duration")
    return round(count / nanoseconds * 1e9, 1) if count and nanoseconds else None


async def _lines(content: aiohttp.StreamReader, idle_seconds: float) -> AsyncIterator[Json]:
    """JSON objects of an NDJSON body, split by hand: the reader's own line mode has a small fixed limit."""
    buffer = b""
    line: Json = {}
    while True:
        # Hashing a large file sends no line at all: then, and only then, silence is no fault.
        hashing = str(line.get("status", "")).startswith("verifying")
        async with asyncio.timeout(None if hashing else idle_seconds):
            chunk = await content.readany()
        if not chunk:
            break
        *complete, buffer = (buffer + chunk).split(b"\n")
        if len(buffer) > MAX_LINE:
            raise OllamaError(f"a line of more than {MAX_LINE} bytes")
        for raw in complete:
            if raw.strip():
                line = _object(raw, "stream")
                yield line
    if buffer.strip():
        yield _object(buffer, "stream")
