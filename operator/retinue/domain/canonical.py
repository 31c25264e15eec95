"""Canonical JSON and decimals: equal content has equal bytes, whoever wrote it and in which order."""

import hashlib
import re
from typing import Any, Final

import rfc8785

_DECIMAL = re.compile(r"^(-?)0*(\d+?)(?:\.(\d*?)0*)?$")

MAX_DEPTH: Final = 128
"""Deepest nesting that is hashed. Far more than a schema needs and far less than any JSON library here takes: what has
a hash can be sent to a model and written to disk by every role."""


class NotCanonical(ValueError):
    """The value cannot be written as RFC 8785 JSON; the message says which part and why."""


def canonical_json(value: Any) -> bytes:
    """RFC 8785 bytes of a JSON value.

    Raises NotCanonical for what has no exact form: integers beyond 2^53, infinities, lone surrogates, other types; and
    for what is nested deeper than MAX_DEPTH.
    """
    if _deeper_than(value, MAX_DEPTH):
        raise NotCanonical(f"it is nested deeper than {MAX_DEPTH} levels")
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise NotCanonical(str(error)) from None


def _deeper_than(value: Any, levels: int) -> bool:
    """Level by level and not by recursion, which a hostile value would exhaust."""
    level = [value]
    for _ in range(levels + 1):
        level = [
            item
            for part in level
            if isinstance(part, dict | list | tuple)
            for item in (part.values() if isinstance(part, dict) else part)
        ]
        if not level:
            return False
    return True


def sha256_of(value: Any) -> str:
    """`sha256:<64 hex>` of the canonical JSON of a value. Raises NotCanonical."""
    return f"sha256:{hashlib.sha256(canonical_json(value)).hexdigest()}"


def shortest_decimal(text: str) -> str:
    """The shortest form of a decimal number: "0.20" -> "0.2", "1.0" -> "1". Other texts come back unchanged."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        return text
    sign, whole, fraction = match.groups()
    number = f"{whole}.{fraction}" if fraction else whole
    return number if number == "0" else sign + number


def null_path(value: Any, path: str) -> str | None:
    """Path of the first null inside a JSON value, or None if there is none."""
    if value is None:
        return path
    children: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        children = [(f"{path}.{key}", item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        children = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    return next((found for where, item in children if (found := null_path(item, where)) is not None), None)
