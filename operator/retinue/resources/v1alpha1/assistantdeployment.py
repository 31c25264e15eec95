"""AssistantDeployment: one assistant in one environment. Which revision, how many pods behind it, on what."""

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from retinue.resources.base import ApiModel, ObjectName, Resource, Time
from retinue.resources.conditions import BaseStatus
from retinue.resources.crd import AGE, Column, Kind, Rule, Scale, rules
from retinue.resources.v1alpha1.assistant import NAME_AT_MOST_40

REVISION_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?-[0-9a-f]{10}$"


class Latest(ApiModel):
    """Follow the newest revision; there is nothing to set."""


class Source(ApiModel):
    """Where the wanted revision comes from."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.revision), has(self.latest)].filter(x, x).size() == 1",
            "exactly one of revision and latest must be set",
        ),
    )

    revision: str | None = Field(
        default=None,
        description="Name of an AssistantRevision in the same namespace: pinned. Absent: not pinned.",
        pattern=REVISION_NAME_PATTERN,
        max_length=63,
    )
    latest: Latest | None = Field(
        default=None,
        description="`{}`: always the newest revision of the Assistant in the same namespace. Absent: not followed.",
    )


class Sharing(StrEnum):
    """Who else may use the same model pods."""

    SHARED = "Shared"
    DEDICATED = "Dedicated"


class Runtime(ApiModel):
    """On what the model runs. Never part of a revision: a change is a rebind and changes no answer."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.externalServer) || (!has(self.profile) && self.sharing == 'Shared')",
            "externalServer excludes profile and sharing Dedicated: remove one of them",
            ".externalServer",
        ),
    )

    profile: ObjectName | None = Field(
        default=None,
        description=(
            "Profile of the platform team: image, resources, placement, storage. "
            "Absent: the installation's default profile."
        ),
    )
    sharing: Sharing = Field(
        default=Sharing.SHARED,
        description=(
            "Shared: model pods are shared with deployments of the same pool that need the same model, runner and "
            "profile. Dedicated: this deployment has its own."
        ),
    )
    external_server: ObjectName | None = Field(
        default=None,
        description=(
            "Ollama server outside of retinue, as the platform team named it; no pod is started. "
            "Absent: pods of a profile."
        ),
    )


class Deadlines(ApiModel):
    """How long the parts of a rollout may take before it is Stalled."""

    pull_seconds: int = Field(default=3600, description="Longest pull of a model, in seconds.", ge=10, le=604800)
    start_seconds: int = Field(
        default=600,
        description="Longest time from the model being on disk to the pod being Ready, in seconds.",
        ge=10,
        le=86400,
    )
    rollout_seconds: int = Field(
        default=7200, description="Longest change to another revision or runtime, in seconds.", ge=10, le=2592000
    )


class AssistantDeploymentSpec(ApiModel):
    """What a person writes."""

    assistant: ObjectName = Field(
        description="Assistant that is deployed. Cannot be changed.",
        json_schema_extra=rules(
            Rule(
                "self == oldSelf", "assistant cannot be changed: make another AssistantDeployment for another assistant"
            )
        ),
    )
    source: Source = Field(description="Which revision is wanted: pinned by name, or always the latest.")
    replicas: int = Field(
        default=1,
        description=(
            "Model pods wanted behind the deployment (a count). Shared model pods: the largest wish of all who share "
            "them counts. 0: none, and the gateway answers 503."
        ),
        ge=0,
        le=100,
    )
    runtime: Runtime = Field(
        default_factory=Runtime, description="On what the model runs. Absent: default profile, shared."
    )
    deadlines: Deadlines = Field(
        default_factory=Deadlines,
        description=(
            "How long a rollout may take, in seconds. Absent: pullSeconds 3600, startSeconds 600, rolloutSeconds 7200."
        ),
    )
    suspend: bool = Field(
        default=False,
        description="true: no pod is wanted, the gateway answers 503, deadlines stand still.",
    )


class Mode(StrEnum):
    """How the wanted revision is chosen."""

    LATEST = "Latest"
    GITOPS = "GitOps"


class ChangeClass(StrEnum):
    """What a rollout has to do."""

    CONFIG_ONLY = "ConfigOnly"
    MODEL_CHANGE = "ModelChange"
    REBIND = "Rebind"


class Candidate(ApiModel):
    """What is on its way to become active."""

    revision: str = Field(description="AssistantRevision that is rolled out.", max_length=63)
    model_server: str = Field(description="ModelServer that will serve it, in the models namespace.", max_length=63)
    change_class: ChangeClass = Field(
        alias="class",
        description=(
            "ConfigOnly: same model pods. ModelChange: another ModelServer. Rebind: same revision, another runtime."
        ),
    )
    since: Time = Field(description="When it became the candidate (RFC 3339, UTC).")


class Rollout(ApiModel):
    """Clock of the running rollout."""

    started_at: Time = Field(description="When the rollout started (RFC 3339, UTC).")
    deadline_at: Time = Field(description="When the rollout will be Stalled if it has not ended (RFC 3339, UTC).")


class HistoryEntry(ApiModel):
    """One change of the active revision."""

    revision: str = Field(description="AssistantRevision that became active.", max_length=63)
    from_revision: str | None = Field(
        default=None, alias="from", description="AssistantRevision that it replaced. Absent: the first.", max_length=63
    )
    at: Time = Field(description="When it became active (RFC 3339, UTC).")


class AssistantDeploymentStatus(BaseStatus):
    """What is served now and what is on its way."""

    environment: str | None = Field(
        default=None,
        description="Environment: label retinue.dev/environment of the namespace. Absent: the label is missing.",
        max_length=63,
    )
    mode: Mode | None = Field(
        default=None,
        description="Latest: follows the newest revision. GitOps: pinned by name. Absent: not seen yet.",
    )
    model_server: str | None = Field(
        default=None,
        description="ModelServer that serves the active revision, in the models namespace. Absent: none yet.",
        max_length=63,
    )
    desired_revision: str | None = Field(
        default=None, description="AssistantRevision that is wanted. Absent: none is known.", max_length=63
    )
    active_revision: str | None = Field(
        default=None, description="AssistantRevision that users get. Absent: none yet.", max_length=63
    )
    candidate: Candidate | None = Field(
        default=None, description="What is on its way to become active. Absent: no rollout is running."
    )
    rollout: Rollout | None = Field(default=None, description="Clock of the running rollout. Absent: none is running.")
    replicas: int | None = Field(
        default=None,
        description="Model pods behind the deployment, candidate included (a count). Absent: not seen yet.",
        ge=0,
        le=10000,
    )
    stable_replicas: int | None = Field(
        default=None,
        description="Model pods of the bound ModelServer (a count): what /scale reports. Absent: not seen yet.",
        ge=0,
        le=10000,
    )
    ready_replicas: int | None = Field(
        default=None,
        description="Ready model pods of the bound ModelServer (a count). Absent: not seen yet.",
        ge=0,
        le=10000,
    )
    selector: str | None = Field(
        default=None,
        description="Label selector for /scale: unique, matches no pod. Absent: not seen yet.",
        max_length=253,
    )
    history: tuple[HistoryEntry, ...] = Field(
        default=(),
        description="Changes of the active revision, newest first. Absent: none yet.",
        max_length=10,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class AssistantDeployment(Resource):
    """One assistant in one environment: the environment is that of its namespace.

    Says which revision is served, how many model pods stand behind it and on which runtime they run.
    """

    KIND: ClassVar[Kind] = Kind(
        kind="AssistantDeployment",
        plural="assistantdeployments",
        singular="assistantdeployment",
        short_names=("astdep",),
        columns=(
            Column("Env", ".status.environment", description="Environment of the namespace."),
            Column("Mode", ".status.mode", description="Latest or GitOps."),
            Column("Desired", ".status.desiredRevision", description="Revision that is wanted."),
            Column("Active", ".status.activeRevision", description="Revision that users get."),
            Column("Ready", ".status.readyReplicas", "integer", description="Ready model pods."),
            Column("Replicas", ".spec.replicas", "integer", description="Wanted model pods."),
            Column("ModelServer", ".status.modelServer", wide=True, description="ModelServer that serves it."),
            Column("Status", ".status.conditions[?(@.type=='Ready')].message", description="What Ready says."),
            AGE,
        ),
        scale=Scale(".spec.replicas", ".status.stableReplicas", ".status.selector"),
        rules=(NAME_AT_MOST_40,),
    )

    spec: AssistantDeploymentSpec = Field(description="What a person writes.")
    status: AssistantDeploymentStatus = Field(
        default_factory=AssistantDeploymentStatus,
        description="What is served now and what is on its way. Written by the operator only.",
    )
