"""A request of OpenAI's chat API, checked field by field before anything else looks at it.

Every parameter either has an effect, or carries the value that the assistant has anyway, or is refused by name: a
client must never believe in a setting that nobody read. What an assistant lets a client set depends on its revision
and is decided in `chat_translation`; this module knows only the API.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from retinue.domain.refusal import invalid, unsupported

MAX_MESSAGES: Final = 2048
MAX_STOP: Final = 16
MAX_STOP_LENGTH: Final = 256
MAX_MODEL_LENGTH: Final = 128
MAX_TOKENS: Final = 2**31 - 1
MAX_SEED: Final = 2**63 - 1
MAX_METADATA: Final = 16

ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
"""Role of a message to the role that Ollama knows."""

ACCEPTED: Final = (
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "seed",
    "user",
    "metadata",
    "store",
)
"""Parameters with an effect; `user`, `metadata` and `store` are checked and describe the request."""

NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
}
"""Parameters without an effect and their values that ask for nothing; those are accepted, all others refused."""

REVISION_DECIDES: Final = ("temperature", "top_p", "reasoning_effort", "verbosity")
"""Sampling parameters that belong to the revision and that no client can set."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a client asked for. `messages` are already in Ollama's spelling; limits are not yet the revision's."""

    model: str
    messages: list[dict[str, Any]]
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    max_tokens_param: str = "max_tokens"
    """Which of the two spellings the client used; errors name it."""
    stop: tuple[str, ...] = ()
    seed: int | None = None
    text_format: bool = False
    """The client insisted on plain text; an assistant that answers in JSON cannot do that."""
    user: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def parse_chat_request(document: object) -> ChatRequest:
    """The checked form of a decoded body. Raises Refusal (400) that names the first field at fault."""
    if not isinstance(document, dict):
        raise invalid("body", "must be a JSON object", "invalid_type")
    for name, value in document.items():
        if name not in ACCEPTED and value is not None:
            _check_without_effect(name, value)
    stream = _bool(document, "stream")
    param, max_tokens = _max_tokens(document)
    _bool(document, "store")
    return ChatRequest(
        model=_text(document, "model", MAX_MODEL_LENGTH),
        messages=_messages(document.get("messages")),
        stream=stream,
        include_usage=_include_usage(document.get("stream_options"), stream),
        max_tokens=max_tokens,
        max_tokens_param=param,
        stop=_stop(document.get("stop")),
        seed=_integer(document, "seed", -MAX_SEED, MAX_SEED),
        text_format=document.get("response_format") is not None,
        user=_text(document, "user", 256) if document.get("user") is not None else None,
        metadata=_metadata(document.get("metadata")),
    )


def _check_without_effect(name: str, value: Any) -> None:
    shown = name[:64]
    if name in REVISION_DECIDES:
        raise unsupported(shown, "is set by the assistant's revision and cannot be set by a client")
    neutral = NEUTRAL.get(name)
    if neutral is None:
        raise unsupported(shown, "is not supported and would have no effect; leave it out")
    # type() is compared as well because in Python True == 1 and 0 == False.
    if not any(value == v and isinstance(value, bool) == isinstance(v, bool) for v in neutral):
        raise unsupported(shown, f"has no effect here; leave it out or send one of {list(neutral)!r}")


def _text(document: Mapping[str, Any], name: str, limit: int) -> str:
    value = document.get(name)
    if value is None:
        raise invalid(name, "is required", "missing_required_parameter")
    if not isinstance(value, str) or not 0 < len(value) <= limit:
        raise invalid(name, f"must be a string of 1 to {limit} characters")
    return value


def _bool(document: Mapping[str, Any], name: str) -> bool:
    value = document.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise invalid(name, "must be true or false", "invalid_type")
    return value


def _integer(document: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid(name, "must be an integer", "invalid_type")
    if not low <= value <= high:
        raise invalid(name, f"must be from {low} to {high}")
    return value


def _max_tokens(document: Mapping[str, Any]) -> tuple[str, int | None]:
    old = _integer(document, "max_tokens", 1, MAX_TOKENS)
    new = _integer(document, "max_completion_tokens", 1, MAX_TOKENS)
    if old is not None and new is not None and old != new:
        raise invalid("max_tokens", "differs from max_completion_tokens; send only one of them")
    return ("max_tokens", old) if new is None else ("max_completion_tokens", new)


def _include_usage(options: object, stream: bool) -> bool:
    if options is None:
        return False
    if not isinstance(options, dict):
        raise invalid("stream_options", "must be an object", "invalid_type")
    if not stream:
        raise invalid("stream_options", "is only allowed together with stream: true")
    for name, value in options.items():
        if name != "include_usage" and value not in (None, False):
            raise unsupported(f"stream_options.{name[:64]}", "is not supported and would have no effect; leave it out")
    include = options.get("include_usage")
    if include is not None and not isinstance(include, bool):
        raise invalid("stream_options.include_usage", "must be true or false", "invalid_type")
    return bool(include)


def _stop(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list) or len(entries) > MAX_STOP:
        raise invalid("stop", f"must be a string or a list of at most {MAX_STOP} strings")
    for entry in entries:
        if not isinstance(entry, str) or not 0 < len(entry) <= MAX_STOP_LENGTH:
            raise invalid("stop", f"each entry must be a string of 1 to {MAX_STOP_LENGTH} characters")
    return tuple(entries)


def _metadata(value: object) -> Mapping[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > MAX_METADATA:
        raise invalid("metadata", f"must be an object of at most {MAX_METADATA} entries")
    for key, entry in value.items():
        if len(key) > 64 or not isinstance(entry, str) or len(entry) > 512:
            raise invalid("metadata", "keys have at most 64 characters, values are strings of at most 512")
    return value


def _messages(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_MESSAGES:
        # Ollama takes an empty list for the wish to load the model, so it must not get through.
        raise invalid("messages", f"is required: a list of 1 to {MAX_MESSAGES} messages")
    return [_message(f"messages[{i}]", m) for i, m in enumerate(value)]


def _message(where: str, message: object) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise invalid(where, "must be an object", "invalid_type")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise invalid(f"{where}.role", f"must be one of {', '.join(ROLES)}")
    for name, value in message.items():
        known = name in ("role", "content") or (name == "tool_call_id" and role == "tool")
        if not known and value not in (None, [], {}, ""):
            raise unsupported(f"{where}.{name[:64]}", "is not supported and would have no effect; leave it out")
    text = _content(f"{where}.content", message.get("content"), optional=role == "assistant")
    result = {"role": ROLES[role], "content": text}
    call = message.get("tool_call_id") if role == "tool" else None
    if call is not None:
        if not isinstance(call, str) or len(call) > 128:
            raise invalid(f"{where}.tool_call_id", "must be a string of at most 128 characters")
        result["tool_call_id"] = call
    return result


def _content(where: str, content: object, *, optional: bool) -> str:
    if content is None and optional:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(_part(f"{where}[{i}]", part) for i, part in enumerate(content))
    raise invalid(where, "must be a string or a list of text parts", "invalid_type")


def _part(where: str, part: object) -> str:
    if not isinstance(part, dict):
        raise invalid(where, "must be an object", "invalid_type")
    kind = part.get("type")
    if kind != "text":
        shown = kind[:32] if isinstance(kind, str) else type(kind).__name__
        raise unsupported(f"{where}.type", f"{shown!r} is not supported; only text parts are")
    if not isinstance(part.get("text"), str):
        raise invalid(f"{where}.text", "must be a string", "invalid_type")
    for name, value in part.items():
        if name not in ("type", "text") and value is not None:
            raise unsupported(f"{where}.{name[:64]}", "is not supported and would have no effect; leave it out")
    return str(part["text"])
