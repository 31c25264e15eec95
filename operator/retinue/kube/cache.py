"""Last seen objects by key: what every reconcile and every route decision reads instead of the API server.

One type behind both feeders (kopf in the operator, `listwatch.py` everywhere else) and the relist that repairs it.
It lives in one event loop and takes no lock. Feeders may deliver late, twice or out of order: an older
resourceVersion never replaces a newer one, and what was deleted does not come back with an older version.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from retinue.kube.client import Object
from retinue.resources.meta import FIELD_MANAGER


class Key(NamedTuple):
    """Identity of an object across the program; `namespace` is empty for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def key_of(obj: Object) -> Key:
    """The key of an object as the API server sends it."""
    metadata = obj["metadata"]
    return Key(obj["kind"], metadata.get("namespace", ""), metadata["name"])


class Change(NamedTuple):
    """What a subscriber is told: `old` None means it appeared, `new` None means it vanished."""

    key: Key
    old: Object | None
    new: Object | None


Objects = list[Object]
Keys = list[Key]
Subscriber = Callable[[Change], None]
"""Must be quick and must not raise: it runs inside the feeder."""
IndexFunction = Callable[[Object], Iterable[str]]
"""Values under which an object is found; pure, may give none."""


class Cache:
    """Keyed store of last seen objects with indexes and subscribers. Never mutate what it returns."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, Object]] = {}
        self._deleted: dict[Key, int] = {}
        """Version at which a key was deleted, until a list that is newer than it has been seen."""
        self._functions: dict[str, dict[str, IndexFunction]] = {}
        self._found: dict[tuple[str, str], dict[str, set[Key]]] = {}
        self._subscribers: list[tuple[frozenset[str] | None, Subscriber]] = []
        self._expected: dict[str, set[str | None]] = {}
        self._listed: dict[str, set[str | None]] = {}

    # Reading ------------------------------------------------------------------------------------------------------

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """The last seen object, or None."""
        return self._objects.get(kind, {}).get(Key(kind, namespace, name))

    def list(self, kind: str, namespace: str | None = None) -> Objects:
        """All objects of a kind (of one namespace), sorted by namespace and name."""
        found = self._objects.get(kind, {})
        return [found[key] for key in sorted(found) if namespace is None or key.namespace == namespace]

    def keys(self, kind: str) -> Keys:
        """Keys of all objects of a kind, sorted."""
        return sorted(self._objects.get(kind, {}))

    def by_index(self, kind: str, index: str, value: str) -> Objects:
        """Objects of a kind for which the named index function gave `value`, sorted. Raises KeyError: no such index."""
        if index not in self._functions.get(kind, {}):
            raise KeyError(f"no index {index!r} on {kind}")
        found = self._objects.get(kind, {})
        return [found[key] for key in sorted(self._found.get((kind, index), {}).get(value, ()))]

    def count(self, kind: str) -> int:
        """How many objects of a kind are held."""
        return len(self._objects.get(kind, {}))

    # Wiring -------------------------------------------------------------------------------------------------------

    def add_index(self, kind: str, index: str, function: IndexFunction) -> None:
        """Makes `by_index` possible; objects that are already held are indexed too."""
        self._functions.setdefault(kind, {})[index] = function
        for key, obj in self._objects.get(kind, {}).items():
            for value in function(obj):
                self._found.setdefault((kind, index), {}).setdefault(value, set()).add(key)

    def subscribe(self, subscriber: Subscriber, kinds: Iterable[str] | None = None) -> None:
        """Calls `subscriber` after every accepted change (of these kinds), whichever feeder brought it."""
        self._subscribers.append((None if kinds is None else frozenset(kinds), subscriber))

    def expect(self, kind: str, namespaces: Iterable[str | None] = (None,)) -> None:
        """Declares which lists make a kind `synced`: one per namespace, or one of all namespaces (None)."""
        self._expected.setdefault(kind, set()).update(namespaces)

    def synced(self, *kinds: str) -> bool:
        """True once every expected list of these kinds (none given: of every expected kind) has been taken in."""
        wanted = kinds or tuple(self._expected)
        return all(kind in self._expected and self._expected[kind] <= self._listed.get(kind, set()) for kind in wanted)

    # Feeding ------------------------------------------------------------------------------------------------------

    def put(self, obj: Object) -> Change | None:
        """Takes in a seen object; None when it says nothing new (same or older version, or deleted since)."""
        key = key_of(obj)
        old = self._objects.get(key.kind, {}).get(key)
        version = _version(obj)
        if version <= self._deleted.get(key, -1) or (old is not None and version <= _version(old)):
            return None
        self._deleted.pop(key, None)
        return self._set(key, old, _slim(obj))

    def remove(
        self,
        kind: str,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> Change | None:
        """Takes in a deletion; one that speaks of another incarnation (`uid`) or is older than what is held is ignored.

        `resource_version` is the one of the DELETED event; with it, late news of the dead object stay out.
        """
        key = Key(kind, namespace, name)
        old = self._objects.get(kind, {}).get(key)
        version = _number(resource_version)
        if old is not None:
            if uid is not None and old["metadata"].get("uid") not in (None, uid):
                return None
            if -1 < version < _version(old):
                return None
        if version > self._deleted.get(key, -1):
            self._deleted[key] = version
        return None if old is None else self._set(key, old, None)

    def replace_all(
        self, kind: str, namespace: str | None, objects: Iterable[Object], resource_version: str
    ) -> set[Key]:
        """Takes in a whole list (namespace None: of all namespaces) made at `resource_version`.

        Returns the keys that changed or vanished. Objects that are newer than the list stay as they are.
        """
        listed_at = _number(resource_version)
        changed: set[Key] = set()
        present: set[Key] = set()
        for obj in objects:
            present.add(key_of(obj))
            if (change := self.put(obj)) is not None:
                changed.add(change.key)
        for key, held in list(self._objects.get(kind, {}).items()):
            inside = namespace is None or key.namespace == namespace
            if inside and key not in present and _version(held) <= listed_at:
                self._set(key, held, None)
                changed.add(key)
        for key, version in list(self._deleted.items()):
            if key.kind == kind and (namespace is None or key.namespace == namespace) and version <= listed_at:
                del self._deleted[key]
        self._listed.setdefault(kind, set()).add(namespace)
        return changed

    def replace_one(self, kind: str, name: str, obj: Object | None) -> set[Key]:
        """Takes in the answer of a read by name of a cluster-scoped object; it counts as the list that `name` expects.

        For kinds that a Role lets us read but not list. Returns the key if it changed or vanished.
        """
        change = self.put(obj) if obj is not None else self.remove(kind, "", name)
        self._listed.setdefault(kind, set()).add(name)
        return set() if change is None else {change.key}

    def _set(self, key: Key, old: Object | None, new: Object | None) -> Change:
        held = self._objects.setdefault(key.kind, {})
        if new is None:
            del held[key]
        else:
            held[key] = new
        for index, function in self._functions.get(key.kind, {}).items():
            found = self._found.setdefault((key.kind, index), {})
            before = set(function(old)) if old is not None else set()
            after = set(function(new)) if new is not None else set()
            for value in before - after:
                found[value].discard(key)
                if not found[value]:
                    del found[value]
            for value in after - before:
                found.setdefault(value, set()).add(key)
        change = Change(key, old, new)
        for kinds, subscriber in self._subscribers:
            if kinds is None or key.kind in kinds:
                subscriber(change)
        return change


def _number(version: str | None) -> int:
    """Versions compare as numbers (promised since Kubernetes 1.35, true of etcd before); anything else is -1."""
    return int(version) if version and version.isdigit() else -1


def _version(obj: Object) -> int:
    return _number(obj["metadata"].get("resourceVersion"))


def _slim(obj: Object) -> Object:
    """A copy without managedFields, the half of a typical object; only what `retinue` itself applied is kept.

    `act` needs that entry to see whether the live object still carries exactly what was applied last.
    """
    fields: list[dict[str, Any]] = obj["metadata"].get("managedFields") or []
    own = [
        f
        for f in fields
        if f.get("manager") == FIELD_MANAGER and f.get("operation") == "Apply" and not f.get("subresource")
    ]
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    if own:
        metadata["managedFields"] = own
    return {**obj, "metadata": metadata}
