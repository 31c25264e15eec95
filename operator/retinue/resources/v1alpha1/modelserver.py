"""ModelServer: Ollama pods that serve one model with one profile for one pool. Made by the operator only."""

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from retinue.resources.base import INT53_MAX, ApiModel, Digest, ObjectName, Resource, Time
from retinue.resources.conditions import BaseStatus
from retinue.resources.crd import AGE, IMMUTABLE, Column, Kind, Rule
from retinue.resources.v1alpha1.content import Model, Runner


class ModelServerSpec(ApiModel):
    """Wholly derived from the deployments that need it; its name holds its key."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.profile) != has(self.externalServer)",
            "exactly one of profile and externalServer must be set",
        ),
        Rule(IMMUTABLE, "a ModelServer cannot be changed: change spec.runtime of the AssistantDeployments that use it"),
    )

    key: Digest = Field(
        description=("sha256 of the RFC 8785 JSON of everything below: deployments with the same key share the server.")
    )
    model: Model = Field(description="The model that is served, by name and by content.")
    runner: Runner = Field(description="Options that make the model reload: the same on every request.")
    profile: ObjectName | None = Field(
        default=None, description="Profile of the platform team. Absent: an external server."
    )
    external_server: ObjectName | None = Field(
        default=None, description="Ollama server outside of retinue. Absent: pods of the profile."
    )
    pool: str = Field(
        description="Who may share it: <team>/<environment>.", min_length=1, max_length=127, pattern=r"^[^\s]+$"
    )
    dedicated_to: str | None = Field(
        default=None,
        description="The one deployment that uses it: <namespace>/<name>. Absent: shared in the pool.",
        max_length=127,
    )


class Pull(ApiModel):
    """Progress of the model's download; written at most every 2 seconds and every 5 percent."""

    completed_bytes: int = Field(description="Bytes that have arrived.", ge=0, le=INT53_MAX)
    total_bytes: int = Field(description="Bytes of the whole model; 0: not known yet.", ge=0, le=INT53_MAX)
    started_at: Time | None = Field(
        default=None, description="When the pull started (RFC 3339, UTC). Absent: not known."
    )
    deadline_at: Time | None = Field(
        default=None, description="When the pull counts as failed (RFC 3339, UTC). Absent: not known."
    )


class Processor(StrEnum):
    """On what a loaded model computes."""

    CPU = "CPU"
    GPU = "GPU"
    MIXED = "Mixed"


class PodStatus(ApiModel):
    """One model pod as its agent describes it."""

    name: str = Field(description="Name of the pod, in the models namespace.", max_length=253)
    ready: bool = Field(default=False, description="true: it answers requests. Absent: false.")
    phase: str | None = Field(
        default=None,
        description=(
            "What its agent does: Starting, Pulling, Verifying, Loading, Warming, Ready, Failed or Unreachable. "
            "Absent: not asked yet."
        ),
        max_length=32,
    )
    loaded: bool = Field(default=False, description="true: the model is in memory. Absent: false.")
    processor: Processor | None = Field(default=None, description="On what the model computes. Absent: not loaded.")
    vram_bytes: int | None = Field(
        default=None,
        description="Memory of the model on graphics cards, in bytes. Absent: not loaded.",
        ge=0,
        le=INT53_MAX,
    )


class User(ApiModel):
    """One AssistantDeployment that uses the server."""

    namespace: str = Field(description="Namespace of the AssistantDeployment.", max_length=63)
    name: str = Field(description="Name of the AssistantDeployment.", max_length=63)


class ModelServerStatus(BaseStatus):
    """How the pods are and who uses them."""

    desired_replicas: int | None = Field(
        default=None,
        description="Model pods that are wanted: the largest wish of all users (a count). Absent: not seen yet.",
        ge=0,
        le=10000,
    )
    replicas: int | None = Field(
        default=None, description="Model pods that exist (a count). Absent: not seen yet.", ge=0, le=10000
    )
    ready_replicas: int | None = Field(
        default=None, description="Model pods that answer requests (a count). Absent: not seen yet.", ge=0, le=10000
    )
    pull: Pull | None = Field(default=None, description="Progress of the model's download. Absent: none is running.")
    pods: tuple[PodStatus, ...] = Field(
        default=(),
        description="The model pods by name, at most 50. Absent: none.",
        max_length=50,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    users: tuple[User, ...] = Field(
        default=(),
        description="AssistantDeployments that use it, at most 50; userCount counts all. Absent: none.",
        max_length=50,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    user_count: int | None = Field(
        default=None,
        description="AssistantDeployments that use it (a count). Absent: not seen yet.",
        ge=0,
        le=1000000,
    )
    unused_since: Time | None = Field(
        default=None,
        description="Since when nobody uses it (RFC 3339, UTC); it is deleted some minutes later. Absent: it is used.",
    )


class ModelServer(Resource):
    """Ollama pods that serve one model with one profile for one pool of deployments.

    Made and deleted by the operator only, in the models namespace.
    """

    KIND: ClassVar[Kind] = Kind(
        kind="ModelServer",
        plural="modelservers",
        singular="modelserver",
        short_names=("ms",),
        columns=(
            Column("Model", ".spec.model.name", description="Model that is served."),
            Column("Digest", ".spec.model.digest", wide=True, description="sha256 of the model's manifest."),
            Column("Profile", ".spec.profile", description="Profile of the platform team."),
            Column("Ready", ".status.readyReplicas", "integer", description="Pods that answer requests."),
            Column("Desired", ".status.desiredReplicas", "integer", description="Pods that are wanted."),
            Column("Users", ".status.userCount", "integer", description="AssistantDeployments that use it."),
            Column("Pull", ".status.pull.completedBytes", "integer", wide=True, description="Bytes that have arrived."),
            Column("Status", ".status.conditions[?(@.type=='Ready')].message", description="What Ready says."),
            AGE,
        ),
    )

    spec: ModelServerSpec = Field(description="Wholly derived; not meant to be written by people.")
    status: ModelServerStatus = Field(
        default_factory=ModelServerStatus,
        description="How the pods are and who uses them. Written by the operator only.",
    )
