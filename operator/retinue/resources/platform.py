"""What only the platform team decides: profiles, model registries, external servers, intervals.

The chart writes it as one file (`/etc/retinue/platform.yaml`) that every role reads at start; tenants name its entries
and can change none of them (architecture rule 6).
"""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]


class PlatformModel(BaseModel):
    """Base of the platform file: camelCase on disk, unknown keys refused, immutable in memory."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class Storage(PlatformModel):
    """Where a model pod keeps its one model."""

    ephemeral: bool = False
    """True: an emptyDir, lost with the pod. False: a claim per pod, kept when scaled, deleted with the ModelServer."""
    size: str = "8Gi"
    """Kubernetes quantity; of the claim, or the emptyDir's sizeLimit. Fixed when a ModelServer is created."""
    storage_class_name: str | None = None
    """StorageClass of the claim; absent: the cluster's default one."""


class Profile(PlatformModel):
    """A named runtime that tenants choose with `spec.runtime.profile`. Editing one rolls its StatefulSets in place."""

    name: DnsLabel
    image: str
    """Ollama image of the model container."""
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: list[str] = Field(default_factory=list)
    resources: dict[str, Any] = Field(default_factory=dict)
    """Kubernetes resources of the Ollama container."""
    agent_resources: dict[str, Any] = Field(default_factory=dict)
    """Kubernetes resources of the agent container."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[dict[str, Any]] = Field(default_factory=list)
    runtime_class_name: str | None = None
    priority_class_name: str | None = None
    storage: Storage = Field(default_factory=Storage)
    slots: int = Field(default=1, ge=1, le=64)
    """Requests that one pod answers at once (OLLAMA_NUM_PARALLEL)."""
    queue: int = Field(default=8, ge=0, le=1024)
    """Requests that the agent lets wait per pod before it answers 503 with Retry-After."""
    num_batch: int | None = Field(default=None, ge=1)
    num_thread: int | None = Field(default=None, ge=1)
    num_gpu: int | None = Field(default=None, ge=0)
    use_mmap: bool | None = None


class ModelRegistry(PlatformModel):
    """A host that models may come from. Names without a host use the default one; other hosts are refused."""

    host: str
    default: bool = False
    insecure: bool = False
    """True: plain HTTP, for registries inside a trusted network."""
    credentials_secret: str | None = None
    """Secret with `username` and `password`: the operator looks digests up with it; model pods pull without."""


class ExternalServer(PlatformModel):
    """An Ollama server that retinue does not run. Tenants name it with `spec.runtime.externalServer`."""

    name: DnsLabel
    url: str
    """Base URL, for example `http://10.0.0.5:11434`."""
    slots: int = Field(default=1, ge=1, le=64)


class HealthSettings(PlatformModel):
    """How often model pods are looked at and what is kept."""

    probe_seconds: float = Field(default=15, gt=0)
    """Seconds between two looks at the agent of a pod."""
    generate_seconds: float = Field(default=300, gt=0)
    """Seconds between two one-token generations of an idle pod."""
    row_seconds: float = Field(default=60, gt=0)
    """Seconds between two rows of an AssistantDeployment whose health does not change."""
    retention_days: int = Field(default=14, ge=1)
    """Days that raw rows are kept; older partitions are dropped."""


class PlatformConfig(PlatformModel):
    """The whole platform file."""

    release: str = "retinue"
    release_namespace: str = "retinue"
    models_namespace: str = "retinue-models"
    namespaces: list[str] = Field(default_factory=list)
    """Namespaces to watch; empty: the whole cluster."""
    agent_image: str
    """Image of the agent container: retinue's own."""
    agent_image_pull_policy: str = "IfNotPresent"
    agent_credential_secret: str = "retinue-agent-credential"  # noqa: S105 (a name, not a secret)
    """Secret in the models namespace: `sha256`, one line of hex per credential that agents accept."""
    default_profile: str
    profiles: list[Profile]
    model_registries: list[ModelRegistry]
    external_servers: list[ExternalServer] = Field(default_factory=list)
    health: HealthSettings = Field(default_factory=HealthSettings)
    unused_seconds: int = Field(default=600, ge=0)
    """Seconds between the last user of a ModelServer going and its deletion."""
    relist_seconds: float = Field(default=600, gt=0)
    """Seconds between two full lists of everything that is watched (jittered by a fifth)."""

    @model_validator(mode="after")
    def _references_resolve(self) -> Self:
        names = [p.name for p in self.profiles]
        if len(set(names)) != len(names):
            raise ValueError(f"profiles: names must differ, got {names}")
        if self.default_profile not in names:
            raise ValueError(f"defaultProfile: {self.default_profile!r} is not one of the profiles {names}")
        if sum(r.default for r in self.model_registries) != 1:
            raise ValueError("modelRegistries: exactly one entry must have default: true")
        return self

    def profile(self, name: str) -> Profile | None:
        """The profile of that name, or None: tenants may name one that does not exist."""
        return next((p for p in self.profiles if p.name == name), None)

    def external_server(self, name: str) -> ExternalServer | None:
        """The external server of that name, or None."""
        return next((s for s in self.external_servers if s.name == name), None)
