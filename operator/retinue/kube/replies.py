"""Turns a failed answer of the API server (a metav1.Status, or anything a proxy says) into our errors."""

import re
from typing import Any, Final

import orjson

from retinue.kube import errors

MESSAGE_LIMIT = 2048
KEPT_DEPTH: Final = 200
"""Levels of an answer that are kept when it has more than orjson reads (1024) or writes (254)."""
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]')


def decode(data: bytes) -> Any:
    """The JSON value of an answer. Raises orjson.JSONDecodeError.

    The API server stores objects that are nested deeper than parsers take, or Python can compare. One tenant's must not
    end a list or a watch that holds those of all others, so what lies too deep is read as null; no digest fits such an
    object any more.
    """
    try:
        value = orjson.loads(data)
        orjson.dumps(value)  # by far the fastest way to learn that it is not too deep
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        pruned = _prune(data)
        return orjson.loads(data if pruned is None else pruned)
    return value


def _prune(data: bytes) -> bytes | None:
    """The text without what lies deeper than KEPT_DEPTH, None if nothing does."""
    kept: list[bytes] = []
    depth, begin = 0, 0
    for token in _TOKEN.finditer(data):
        sign = token[0]
        if sign in (b"[", b"{"):
            depth += 1
            if depth == KEPT_DEPTH + 1:
                kept += (data[begin : token.start()], b"null")
        elif sign in (b"]", b"}"):
            if depth == KEPT_DEPTH + 1:
                begin = token.end()
            depth -= 1
    return b"".join((*kept, data[begin:])) if kept else None


def error_of(status: int, retry_after: str | None, data: bytes) -> errors.ApiError:
    """The error that tells the caller what to do next; `retry_after` is the header's text."""
    reason, message = "", ""
    details: dict[str, object] = {}
    try:
        body = orjson.loads(data)
        reason, message = body.get("reason") or "", body.get("message") or ""
        details = body.get("details") or {}
    except (orjson.JSONDecodeError, AttributeError):
        message = data[:200].decode(errors="replace").strip()
    seconds = _seconds(retry_after)
    if seconds is None:
        seconds = _seconds(str(details.get("retryAfterSeconds", "")))
    kind = _kind(status, reason)
    return kind(status, reason or kind.__name__, message[:MESSAGE_LIMIT], retry_after=seconds)


def _kind(status: int, reason: str) -> type[errors.ApiError]:
    if status == 409:
        return errors.AlreadyExists if reason == "AlreadyExists" else errors.Conflict
    if status in (401, 403):
        return errors.Forbidden
    if status == 404:
        return errors.NotFound
    if status == 410:
        return errors.Gone
    if status == 429:
        return errors.TooManyRequests
    if status >= 500 or status == 408:
        return errors.Unavailable
    return errors.Invalid


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isdigit() else None
