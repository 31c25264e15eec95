"""What the rest of retinue may ask of an API server, on plain dicts; the only HTTP adapter is `kube/aio.py`.

A Protocol, so that reconcilers state what they need and tests can wrap the real client (count, delay, cut).
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Object = dict[str, Any]
"""A Kubernetes object as the API server sends it. Never mutate one that came from the cache."""


@dataclass(frozen=True, slots=True)
class Resource:
    """Where a kind lives: enough to build its URL."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """API group, empty for core."""
        return self.api_version.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list."""

    items: list[Object]
    resource_version: str
    continue_token: str | None


class KubeClient(Protocol):
    """Verbs on the API server. Every call has a timeout and raises only `retinue.kube.errors`."""

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """Read one object. Raises NotFound."""
        ...

    async def list_page(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        limit: int = 500,
        continue_token: str | None = None,
    ) -> Page:
        """Read one page; namespace None means all namespaces."""
        ...

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        resource_version: str,
        timeout_seconds: int = 290,
    ) -> AsyncIterator[tuple[str, Object]]:
        """Yield (type, object): ADDED, MODIFIED, DELETED, BOOKMARK. Raises Gone on 410, also inside the stream."""
        ...

    async def create(self, resource: Resource, body: Object, namespace: str | None = None) -> Object:
        """POST. Raises AlreadyExists."""
        ...

    async def apply(self, resource: Resource, body: Object) -> Object:
        """Server-side apply as field manager `retinue`, forced. Name and namespace come from the body."""
        ...

    async def apply_status(self, resource: Resource, body: Object) -> Object:
        """Server-side apply on /status. A `metadata.resourceVersion` in the body is a precondition (Conflict)."""
        ...

    async def replace(self, resource: Resource, body: Object) -> Object:
        """PUT with the body's resourceVersion as precondition (Lease). Raises Conflict."""
        ...

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str = "Background",
        grace_period_seconds: int | None = None,
    ) -> None:
        """Delete with preconditions. Raises NotFound, Conflict."""
        ...

    async def request(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Object | None = None
    ) -> Object:
        """Any other JSON request, for example /version."""
        ...

    async def close(self) -> None:
        """Close connections. Idempotent."""
        ...
