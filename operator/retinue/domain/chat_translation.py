"""Between OpenAI's chat API and Ollama's native one: the request upstream, and its reply back.

The upstream call is always Ollama's native `/api/chat`, because only that one takes the runner's constants and gives
token counts and timings. Everything here works on values and bytes; ids and times are arguments.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from retinue.domain.chat_request import ChatRequest
from retinue.domain.inference import with_constants
from retinue.domain.refusal import Refusal, invalid, unsupported
from retinue.domain.served_revision import ServedRevision

MAX_LINE: Final = 4 * 1024 * 1024
"""Bytes of one line of a streamed reply; more than that is no reply of Ollama."""
DONE: Final = b"data: [DONE]\n\n"


def upstream_request(request: ChatRequest, revision: ServedRevision, constants: Mapping[str, Any]) -> dict[str, Any]:
    """The body of `/api/chat`. Raises Refusal (400) for what the revision does not let this client do."""
    if "Chat" not in revision.capabilities:
        raise invalid("model", "this assistant does not chat; its capabilities lack Chat", "unsupported_capability")
    if request.text_format and revision.format is not None:
        raise unsupported("response_format", "this assistant's revision answers in JSON; leave it out")
    options: dict[str, Any] = dict(revision.options)
    if request.seed is not None:
        _allow(revision, "seed", "seed")
        options["seed"] = request.seed
    if request.stop:
        _allow(revision, "stop", "stop")
        # Added to the revision's own, so that a client can end an answer earlier but never later.
        options["stop"] = list(dict.fromkeys([*options.get("stop", ()), *request.stop]))
    limit = _answer_limit(request, revision)
    if limit is not None:
        options["num_predict"] = limit
    messages = request.messages
    if revision.system_prompt is not None:
        messages = [{"role": "system", "content": revision.system_prompt}, *messages]
    body: dict[str, Any] = {
        "model": revision.model,
        "messages": messages,
        "stream": request.stream,
        "options": options,
    }
    if revision.format is not None:
        body["format"] = revision.format
    return with_constants(body, dict(constants))


def _answer_limit(request: ChatRequest, revision: ServedRevision) -> int | None:
    """Tokens of an answer: the smallest of what client, revision and context window say.

    Without any of them Ollama would go on for ten context windows, so the window itself is the last bound.
    """
    bounds = [b for b in (revision.max_tokens, revision.runner.num_ctx) if b is not None]
    if request.max_tokens is not None:
        _allow(revision, "maxTokens", request.max_tokens_param)
        bounds.append(request.max_tokens)
    return min(bounds, default=None)


def _allow(revision: ServedRevision, override: str, param: str) -> None:
    if override not in revision.client_overrides:
        raise unsupported(
            param, f"this assistant's revision does not let clients set it (no {override} in clientOverrides)"
        )


@dataclass(slots=True)
class Outcome:
    """What is known of a reply when it has ended. Durations are in nanoseconds, as Ollama gives them."""

    finished: bool = False
    """Ollama said `done`; without it the reply is cut off, whatever its status was."""
    finish_reason: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    load_ns: int = 0
    prompt_ns: int = 0
    eval_ns: int = 0
    error: str = ""
    """Class of the failure, empty if there was none."""

    def take(self, last: Mapping[str, Any]) -> None:
        """Read the fields of the line that says `done`."""
        self.finished = True
        self.finish_reason = "length" if last.get("done_reason") == "length" else "stop"
        self.completion_tokens = int(last.get("eval_count") or 0)
        self.prompt_tokens = int(last.get("prompt_eval_count") or 0)
        self.load_ns = int(last.get("load_duration") or 0)
        self.prompt_ns = int(last.get("prompt_eval_duration") or 0)
        self.eval_ns = int(last.get("eval_duration") or 0)

    def usage(self) -> dict[str, int]:
        """Token counts as OpenAI's API writes them."""
        prompt, completion = self.prompt_tokens or 0, self.completion_tokens or 0
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


@dataclass(frozen=True, slots=True)
class Identity:
    """What every part of one reply repeats."""

    request_id: str
    model: str
    """Model id as the client wrote it."""
    revision: str
    created: int
    """Unix seconds."""

    def head(self, kind: str) -> dict[str, Any]:
        """The common fields of a reply or of a chunk; the fingerprint of an assistant is its revision."""
        return {
            "id": f"chatcmpl-{self.request_id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.revision,
        }


def upstream_failure(status: int) -> Refusal:
    """What a client is told when the model server answered `status` instead of a reply.

    Its words are not passed on: they may quote the prompt, and they name things that are not the client's.
    """
    if status == 400:
        return Refusal(
            400, "upstream_rejected", "the model server refused the request; it may not fit the context window"
        )
    if status == 503:
        return Refusal(503, "overloaded", "all model pods of this assistant are busy; try again later", retry_after=1)
    return Refusal(502, "upstream_error", f"the model server failed (status {status}); try again later")


def incomplete() -> Refusal:
    """The reply ended without `done`: the model repeated itself without end, or its pod went away."""
    return Refusal(502, "upstream_incomplete", "the reply broke off before its end; what was sent is not complete")


def chat_reply(reply: Mapping[str, Any], identity: Identity, outcome: Outcome) -> dict[str, Any]:
    """The reply that is not streamed. Raises Refusal (502) when Ollama's is not a finished one."""
    if reply.get("error") is not None:
        raise upstream_failure(500)
    if not reply.get("done"):
        raise incomplete()
    outcome.take(reply)
    message = {"role": "assistant", "content": (reply.get("message") or {}).get("content") or "", "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": outcome.finish_reason}
    return {**identity.head("chat.completion"), "choices": [choice], "usage": outcome.usage()}


class ChatStream:
    """Turns Ollama's lines into OpenAI's server-sent events, however the bytes were cut on their way.

    Feed bytes as they come and send what is returned; call `end` once when the body has ended. After `done` or an
    error nothing more is produced. A failure in the middle becomes an error event, without `[DONE]` behind it.
    """

    def __init__(self, identity: Identity, *, include_usage: bool) -> None:
        self.outcome = Outcome()
        self._include_usage = include_usage
        head = orjson.dumps(identity.head("chat.completion.chunk"))[:-1]
        # Built once: only the text differs between chunks.
        self._delta = b"data: " + head + b',"choices":[{"index":0,"delta":{'
        tail = b',"usage":null' if include_usage else b""
        self._running = b'},"logprobs":null,"finish_reason":null}]' + tail + b"}\n\n"
        self._last = b'},"logprobs":null,"finish_reason":"%s"}]' + tail + b"}\n\n"
        self._usage = b"data: " + head + b',"choices":[],"usage":'
        self._rest = b""
        self._begun = False
        self._ended = False

    @property
    def ended(self) -> bool:
        """True when the last event has been produced."""
        return self._ended

    @property
    def begun(self) -> bool:
        """True when the first piece of the answer has come."""
        return self._begun

    def feed(self, data: bytes) -> bytes:
        """The events for these bytes; empty while a line is incomplete."""
        if self._ended:
            return b""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_LINE:
            return self.fail(upstream_failure(500))
        return b"".join([self._line(line) for line in lines if line])

    def end(self) -> bytes:
        """The events that are still owed when the body has ended."""
        rest, self._rest = self._rest, b""
        events = self._line(rest) if rest.strip() else b""
        return events if self._ended else events + self.fail(incomplete())

    def fail(self, refusal: Refusal) -> bytes:
        """End the stream with an error event; nothing if it has ended already."""
        if self._ended:
            return b""
        self._ended = True
        self.outcome.error = refusal.code
        return b"data: " + orjson.dumps(refusal.document()) + b"\n\n"

    def _line(self, line: bytes) -> bytes:
        if self._ended:
            return b""
        try:
            part = orjson.loads(line)
            content = (part.get("message") or {}).get("content") or ""
        except (ValueError, AttributeError):
            return self.fail(upstream_failure(500))
        if part.get("error") is not None:
            return self.fail(upstream_failure(500))
        done = bool(part.get("done"))
        events = b""
        if content or not self._begun:
            role = b"" if self._begun else b'"role":"assistant",'
            self._begun = True
            events = self._delta + role + b'"content":' + orjson.dumps(content) + self._running
        if not done:
            return events
        self._ended = True
        self.outcome.take(part)
        events += self._delta + self._last % self.outcome.finish_reason.encode()
        if self._include_usage:
            events += self._usage + orjson.dumps(self.outcome.usage()) + b"}\n\n"
        return events + DONE
