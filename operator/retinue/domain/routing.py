"""Which pods answer for which assistant: built from what the API server holds, used for every request.

`build_routes` is pure and rebuilds the whole table; the gateway swaps the new table in at once, so that a request sees
either the old or the new one and never a mixture. What the table says about a deployment that cannot be asked is as
important as the addresses: the refusal tells the caller why.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from retinue.domain.refusal import Refusal
from retinue.domain.served_revision import NotServable, ServedRevision, serve_revision
from retinue.resources.meta import READY
from retinue.resources.platform import PlatformConfig
from retinue.resources.reasons import ASSISTANT_ARCHIVED, ASSISTANT_INACTIVE

Object = Mapping[str, Any]

AGENT_PORT_NAME: Final = "agent"
SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
INACTIVE_REASONS: Final = frozenset({ASSISTANT_INACTIVE, ASSISTANT_ARCHIVED})
"""Reasons of Ready under which a deployment that follows `latest` behaves as suspended."""


class RouteState(StrEnum):
    """Whether an assistant can be asked, and what stands in the way."""

    SERVING = "Serving"
    SUSPENDED = "Suspended"
    SCALED_TO_ZERO = "ScaledToZero"
    NO_ACTIVE_REVISION = "NoActiveRevision"
    REVISION_MISSING = "RevisionMissing"
    REVISION_NOT_SERVABLE = "RevisionNotServable"
    MODEL_SERVER_MISSING = "ModelServerMissing"
    MODEL_SERVER_MISMATCH = "ModelServerMismatch"
    RUNTIME_UNKNOWN = "RuntimeUnknown"
    NO_READY_POD = "NoReadyPod"


TRANSITIONAL: Final = frozenset(
    {
        RouteState.REVISION_MISSING,
        RouteState.MODEL_SERVER_MISSING,
        RouteState.MODEL_SERVER_MISMATCH,
        RouteState.NO_READY_POD,
    }
)
"""States that can come from events of different kinds arriving in another order than they happened."""

RETRY_SECONDS: Final = {RouteState.SUSPENDED: 60, RouteState.SCALED_TO_ZERO: 60}
"""Seconds after which it is worth asking again; 5 where nothing is said."""


@dataclass(frozen=True, slots=True)
class Target:
    """One place that answers: a model pod's agent, or an external server."""

    url: str
    """Base URL without a slash at the end."""
    name: str
    """Pod, or name of the external server."""
    external: bool = False
    """External servers never get the credential of the data plane."""


@dataclass(frozen=True, slots=True)
class Route:
    """Everything that a request to one AssistantDeployment needs."""

    namespace: str
    deployment: str
    uid: str
    created: int
    """Unix seconds."""
    state: RouteState
    message: str = ""
    revision: ServedRevision | None = None
    model_server: str = ""
    targets: tuple[Target, ...] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)
    """Fields that every request to the model server carries, in Ollama's spelling."""

    @property
    def model_id(self) -> str:
        """How clients name it."""
        return f"{self.namespace}/{self.deployment}"

    def serving(self) -> ServedRevision:
        """The revision that answers now. Raises Refusal (503) that says why there is none."""
        if self.state is RouteState.SERVING and self.revision is not None:
            return self.revision
        raise Refusal(
            503,
            f"assistant_{_snake(self.state)}",
            f"assistant {self.model_id!r} cannot answer now: {self.message}",
            retry_after=RETRY_SECONDS.get(self.state, 5),
        )


@dataclass(frozen=True, slots=True)
class RouteTable:
    """All routes at one moment. Never changed; a new one takes its place."""

    routes: Mapping[str, Route] = field(default_factory=dict)
    """By `<namespace>/<deployment>`."""
    short: Mapping[str, Route] = field(default_factory=dict)
    """By the bare name of a deployment, where only one namespace has it."""

    def find(self, model: str) -> Route | None:
        """The route of a model id; a bare name that two namespaces use finds nothing."""
        return self.routes.get(model) or self.short.get(model)


@dataclass(frozen=True, slots=True)
class RouteObjects:
    """The objects of one moment, as the API server sends them."""

    deployments: Iterable[Object] = ()
    revisions: Iterable[Object] = ()
    model_servers: Iterable[Object] = ()
    endpoint_slices: Iterable[Object] = ()


def build_routes(objects: RouteObjects, platform: PlatformConfig, previous: RouteTable | None = None) -> RouteTable:
    """The table that follows from `objects`.

    `previous` serves two ends: revisions whose digest was checked are not hashed again, and a deployment whose new
    state is only half known (its events come from several watches, in any order) keeps its old route while that one
    still has Ready pods. Nothing else is taken over from it.
    """
    old = previous.routes if previous else {}
    sources = _Sources(objects, platform, {r.revision.uid: r.revision for r in old.values() if r.revision})
    routes: dict[str, Route] = {}
    short: dict[str, Route | None] = {}
    for deployment in objects.deployments:
        route = sources.route(deployment)
        before = old.get(route.model_id)
        if before is not None and route.state in TRANSITIONAL:
            route = sources.keep(before, route)
        routes[route.model_id] = route
        short[route.deployment] = None if route.deployment in short else route
    return RouteTable(routes, {name: r for name, r in short.items() if r is not None})


class _Sources:
    """The objects of one build, indexed by how routes refer to them."""

    def __init__(self, objects: RouteObjects, platform: PlatformConfig, checked: dict[str, ServedRevision]) -> None:
        self.platform = platform
        self.checked = checked
        self.revisions = {_key(o): o for o in objects.revisions}
        models = platform.models_namespace
        self.servers = {o["metadata"]["name"]: o for o in objects.model_servers if o["metadata"]["namespace"] == models}
        self.pods: dict[str, dict[str, Target]] = {}
        for part in objects.endpoint_slices:
            metadata = part["metadata"]
            service = (metadata.get("labels") or {}).get(SERVICE_NAME_LABEL)
            if service and metadata["namespace"] == models:
                self.pods.setdefault(service, {}).update((t.url, t) for t in ready_targets(part))

    def route(self, deployment: Object) -> Route:
        metadata, spec = deployment["metadata"], deployment.get("spec") or {}
        status = deployment.get("status") or {}
        ready: Object = next((c for c in status.get("conditions") or () if c.get("type") == READY), {})
        base = Route(
            namespace=metadata["namespace"],
            deployment=metadata["name"],
            uid=metadata.get("uid", ""),
            created=_unix(metadata.get("creationTimestamp")),
            state=RouteState.SERVING,
            model_server=status.get("modelServer") or "",
        )

        def refuse(state: RouteState, message: str) -> Route:
            return replace(base, state=state, message=message)

        said = f" ({str(ready['message'])[:200]})" if ready.get("message") else ""
        if spec.get("suspend"):
            return refuse(RouteState.SUSPENDED, "it is suspended; its owner set spec.suspend")
        if ready.get("reason") in INACTIVE_REASONS:
            return refuse(RouteState.SUSPENDED, f"its assistant is not active{said}")
        if spec.get("replicas") == 0:
            return refuse(RouteState.SCALED_TO_ZERO, "it is scaled to zero; its owner set spec.replicas to 0")
        active = status.get("activeRevision")
        if not active or not base.model_server:
            return refuse(RouteState.NO_ACTIVE_REVISION, f"no revision is active yet{said}")
        stored = self.revisions.get((base.namespace, active))
        if stored is None:
            return refuse(RouteState.REVISION_MISSING, f"its active revision {active!r} does not exist")
        try:
            revision = self.revision(stored)
        except NotServable as problem:
            return refuse(RouteState.REVISION_NOT_SERVABLE, f"{problem.reason}: {problem.message}")
        base = replace(base, revision=revision)
        server = self.servers.get(base.model_server)
        if server is None:
            return refuse(RouteState.MODEL_SERVER_MISSING, f"its model server {base.model_server!r} does not exist")
        wanted = server.get("spec") or {}
        if not _matches(wanted, revision):
            return refuse(RouteState.MODEL_SERVER_MISMATCH, f"model server {base.model_server!r} serves another model")
        profile = None
        external = wanted.get("externalServer")
        if not external:
            profile = self.platform.profile(wanted.get("profile") or self.platform.default_profile)
            if profile is None:
                return refuse(RouteState.RUNTIME_UNKNOWN, f"no profile is named {wanted.get('profile')!r}")
        elif self.platform.external_server(external) is None:
            return refuse(RouteState.RUNTIME_UNKNOWN, f"no external server is named {external!r}")
        targets = self.targets(base.model_server)
        if not targets:
            return refuse(RouteState.NO_READY_POD, f"no pod of model server {base.model_server!r} is Ready{said}")
        return replace(base, targets=targets, constants=revision.constants(profile))

    def revision(self, stored: Object) -> ServedRevision:
        uid = stored["metadata"].get("uid")
        if not uid:
            return serve_revision(stored)
        # The spec of a revision is immutable, so what was checked under this UID stays right.
        if uid not in self.checked:
            self.checked[uid] = serve_revision(stored)
        return self.checked[uid]

    def targets(self, name: str) -> tuple[Target, ...]:
        external = ((self.servers.get(name) or {}).get("spec") or {}).get("externalServer")
        if external:
            listed = self.platform.external_server(external)
            return (Target(listed.url.rstrip("/"), listed.name, external=True),) if listed else ()
        return tuple(self.pods.get(name, {}).values())

    def keep(self, before: Route, route: Route) -> Route:
        targets = self.targets(before.model_server) if before.state is RouteState.SERVING else ()
        return replace(before, targets=targets) if targets and before.uid == route.uid else route


def ready_targets(endpoint_slice: Object) -> list[Target]:
    """The Ready pods of one EndpointSlice. A pod that is going away is not Ready; an absent `ready` means true."""
    port = next((p.get("port") for p in endpoint_slice.get("ports") or () if p.get("name") == AGENT_PORT_NAME), None)
    if port is None:
        return []
    found = []
    for endpoint in endpoint_slice.get("endpoints") or ():
        conditions = endpoint.get("conditions") or {}
        addresses = endpoint.get("addresses") or ()
        if conditions.get("ready") is False or conditions.get("terminating") or not addresses:
            continue
        host = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
        name = (endpoint.get("targetRef") or {}).get("name") or addresses[0]
        found.append(Target(f"http://{host}:{port}", name))
    return found


def _matches(server: Object, revision: ServedRevision) -> bool:
    model, runner = server.get("model") or {}, server.get("runner") or {}
    return (
        model.get("name") == revision.model
        and model.get("digest") == revision.model_digest
        and runner.get("numCtx") == revision.runner.num_ctx
        and runner.get("shift") == revision.runner.shift
    )


def _key(item: Object) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _unix(timestamp: str | None) -> int:
    return int(datetime.fromisoformat(timestamp).timestamp()) if timestamp else 0


def _snake(state: RouteState) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in state).lstrip("_")
