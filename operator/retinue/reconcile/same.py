"""Does a live object still carry exactly what we applied? Decides whether a server-side apply would change anything.

Two questions, answered in one walk: is every wanted value there (defaults that the server added do not count), and
does our field manager own exactly the wanted fields (an owned field that is no longer wanted must be taken away; a
wanted field that we do not own was changed or taken by somebody else)? When in doubt the answer is no: one apply too
many is harmless, one too few is not.
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from retinue.kube.client import Object
from retinue.resources.meta import FIELD_MANAGER

_IDENTITY: Final = frozenset({"name", "namespace", "uid", "resourceVersion", "managedFields", "creationTimestamp"})
"""Metadata that names the object instead of being wanted."""
_QUANTITY_PARENTS: Final = frozenset({"limits", "requests", "hard", "capacity"})
_QUANTITY_FIELDS: Final = frozenset({"sizeLimit", "storage", "divisor"})
_ATOMIC_DEFAULTS: Final[Mapping[str, Any]] = {"protocol": "TCP", "apiVersion": "v1", "effect": "", "divisor": "0"}
"""Defaults that the server puts into lists and structs that are owned as a whole."""
_QUANTITY = re.compile(r"^([+-]?[0-9.]+)(?:([eE][+-]?[0-9]+)|([numkMGTPE]i?|Ki|))$")
_SUFFIX: Final = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}

Fields = Mapping[str, Any]
"""fieldsV1 of managedFields: `f:NAME`, `k:{...}`, `v:VALUE`, `.`."""


def already_applied(wanted: Object, live: Object) -> bool:
    """True if applying `wanted` again as our field manager would leave `live` as it is."""
    owned = _owned(live)
    if owned is None:
        return False
    for part in wanted.keys() | {name[2:] for name in owned if name.startswith("f:")}:
        if part in ("apiVersion", "kind", "status"):
            continue
        wanted_part, live_part, owned_part = wanted.get(part), live.get(part), owned.get(f"f:{part}")
        if part == "metadata":
            wanted_part = {k: v for k, v in (wanted_part or {}).items() if k not in _IDENTITY}
            owned_part = owned_part or {".": {}}
        if not _same(wanted_part, live_part, owned_part, part):
            return False
    return True


def _owned(live: Object) -> Fields | None:
    for entry in live["metadata"].get("managedFields") or ():
        if entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource"):
            fields: Fields = entry.get("fieldsV1") or {}
            return fields
    return None


def _same(wanted: Any, live: Any, owned: Fields | None, field: str) -> bool:
    """One node of the walk; `owned` None: not ours, empty: ours as a whole (a leaf or an atomic value)."""
    if wanted is None:
        return owned is None
    if owned is None:
        return False
    if not owned:
        return _equal(wanted, live, field)
    if isinstance(wanted, Mapping):
        return _same_struct(wanted, live, owned, field)
    if isinstance(wanted, list):
        return _same_list(wanted, live, owned, field)
    return _equal(wanted, live, field)


def _same_struct(wanted: Mapping[str, Any], live: Any, owned: Fields, field: str) -> bool:
    if not isinstance(live, Mapping):
        return _is_zero(wanted) and live is None
    names = {name for name, value in wanted.items() if value is not None}
    names |= {name[2:] for name in owned if name.startswith("f:")}
    return all(_same(wanted.get(name), live.get(name), owned.get(f"f:{name}"), _inner(field, name)) for name in names)


def _same_list(wanted: list[Any], live: Any, owned: Fields, field: str) -> bool:
    if not isinstance(live, list):
        return not wanted and live is None
    entries = {name: fields for name, fields in owned.items() if name != "."}
    if len(entries) != len(wanted):
        return False
    matched = 0
    for name, fields in entries.items():
        if name.startswith("v:"):
            value = json.loads(name[2:])
            matched += value in wanted and value in live
        elif name.startswith("k:"):
            keys: dict[str, Any] = json.loads(name[2:])
            ours = next((item for item in wanted if _has_keys(item, keys)), None)
            theirs = next((item for item in live if _has_keys(item, keys)), None)
            if ours is None or theirs is None:
                return False
            if not fields:
                # An item that is owned as a whole, for example an owner reference.
                matched += _equal(ours, theirs, field)
                continue
            # The key fields are owned with their defaults even where the applied item left them out.
            inner = {part: sub for part, sub in fields.items() if part[2:] not in keys or part[2:] in ours}
            matched += _same_struct(ours, theirs, inner or {".": {}}, field)
        else:
            return False
    return matched == len(wanted)


def _has_keys(item: Any, keys: Mapping[str, Any]) -> bool:
    return isinstance(item, Mapping) and all(
        item.get(name, _ATOMIC_DEFAULTS.get(name)) == value for name, value in keys.items()
    )


def _equal(wanted: Any, live: Any, field: str) -> bool:
    """Compares what is owned as a whole: nothing may be missing, and nothing else may be there but known defaults."""
    if _is_zero(wanted) and live is None:
        return True
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            return False
        extra = {name: value for name, value in live.items() if wanted.get(name) is None}
        return all(name in _ATOMIC_DEFAULTS and _ATOMIC_DEFAULTS[name] == value for name, value in extra.items()) and (
            all(_equal(value, live.get(name), _inner(field, name)) for name, value in wanted.items())
        )
    if isinstance(wanted, list):
        return (
            isinstance(live, list)
            and len(live) == len(wanted)
            and all(_equal(mine, theirs, field) for mine, theirs in zip(wanted, live, strict=True))
        )
    if wanted == live and isinstance(wanted, bool) == isinstance(live, bool):
        return True
    return _is_quantity(field) and quantity(wanted) is not None and quantity(wanted) == quantity(live)


def _inner(field: str, name: str) -> str:
    """The name that decides how a value below `field` is compared: quantities hide under free keys."""
    return f"{field}." if field in _QUANTITY_PARENTS else name


def _is_quantity(field: str) -> bool:
    return field.rstrip(".") in _QUANTITY_PARENTS or field in _QUANTITY_FIELDS


def _is_zero(value: Any) -> bool:
    """The server drops zero values of many built-in fields."""
    return value is None or value is False or value in ("", 0, [], {})


def quantity(value: Any) -> Decimal | None:
    """The number behind a Kubernetes quantity such as `500m` or `1Gi`; None if it is not one."""
    found = _QUANTITY.match(str(value))
    if found is None or isinstance(value, bool):
        return None
    number, exponent, suffix = found.groups()
    try:
        return Decimal(number + (exponent or "")) * _SUFFIX[suffix or ""]
    except (ArithmeticError, KeyError):
        return None
