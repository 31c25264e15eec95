"""Tells whether a live child still is what was applied, so that only real differences are written (rule 4)."""

from decimal import Decimal
from typing import Any, Final

from retinue.domain.desired.labels import ANNOTATION_DESIRED, Object

_SUFFIXES: Final = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
    "Ei": Decimal(2) ** 60,
}
_QUANTITY_PARENTS: Final = frozenset({"requests", "limits"})
_QUANTITY_KEYS: Final = frozenset({"sizeLimit"})
_LIST_KEYS: Final = {"volumeMounts": "mountPath", "ports": "name"}
"""What tells the items of a list apart, where it is not `name`."""


def must_apply(desired: Object, live: Object | None) -> bool:
    """True if server-side apply of `desired` would change `live`.

    Two looks: the stamp finds what is no longer wanted, the comparison finds what others changed. What only the API
    server adds (defaults, status) does not count.
    """
    if live is None:
        return True
    stamp = desired["metadata"]["annotations"][ANNOTATION_DESIRED]
    if (live["metadata"].get("annotations") or {}).get(ANNOTATION_DESIRED) != stamp:
        return True
    return not _holds(desired["spec"], live.get("spec"), "") or not _holds(
        desired["metadata"]["labels"], live["metadata"].get("labels"), ""
    )


def _holds(wanted: Any, found: Any, key: str) -> bool:
    """Whether `found` has everything that `wanted` has; extra fields are defaults of the API server."""
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return wanted == {} and found is None
        if key in _QUANTITY_PARENTS:
            return all(name in found and same_quantity(value, found[name]) for name, value in wanted.items())
        return all(_holds(value, found.get(name), name) for name, value in wanted.items())
    if isinstance(wanted, list):
        return _holds_list(wanted, found if isinstance(found, list) else [], key)
    if key in _QUANTITY_KEYS:
        return same_quantity(wanted, found)
    return bool(wanted == found)


def _holds_list(wanted: list[Any], found: list[Any], key: str) -> bool:
    by = _LIST_KEYS.get(key, "name")
    if wanted and all(isinstance(item, dict) and by in item for item in wanted):
        known = {item.get(by): item for item in found if isinstance(item, dict)}
        return all(item[by] in known and _holds(item, known[item[by]], "") for item in wanted)
    return len(wanted) == len(found) and all(_holds(w, f, "") for w, f in zip(wanted, found, strict=True))


def same_quantity(one: Any, other: Any) -> bool:
    """Whether two Kubernetes quantities are the same amount: the API server writes `1000m` back as `1`."""
    if one == other:
        return True
    try:
        return _amount(str(one)) == _amount(str(other))
    except (ArithmeticError, KeyError):
        return False


def _amount(text: str) -> Decimal:
    digits = text.rstrip("".join(set("".join(_SUFFIXES))))
    suffix = text[len(digits) :]
    if suffix.startswith(("e", "E")) and suffix[1:].lstrip("+-").isdigit():
        return Decimal(text)
    return Decimal(digits) * _SUFFIXES[suffix]
