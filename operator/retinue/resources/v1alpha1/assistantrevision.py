"""AssistantRevision: the immutable, content-addressed snapshot of everything that changes an answer."""

from typing import ClassVar

from pydantic import Field

from retinue.resources.base import INT32_MAX, INT53_MAX, ApiModel, Digest, ObjectName, Resource
from retinue.resources.conditions import BaseStatus
from retinue.resources.crd import AGE, IMMUTABLE, Column, Kind, Rule
from retinue.resources.v1alpha1.content import Snapshot


class Provenance(ApiModel):
    """Where a revision came from. Not part of its digest."""

    generation: int | None = Field(
        default=None,
        description="metadata.generation of the Assistant that it was made from (a count). Absent: made offline.",
        ge=0,
        le=INT53_MAX,
    )
    template: ObjectName | None = Field(
        default=None, description="AssistantTemplate that was resolved into it. Absent: none."
    )
    git_commit: str | None = Field(
        default=None,
        description="Commit of the manifest that it was made from, as hex. Absent: not known.",
        pattern=r"^[0-9a-f]{7,64}$",
        max_length=64,
    )


class AssistantRevisionSpec(ApiModel):
    """Fixed for ever once it is made."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(IMMUTABLE, "a revision cannot be changed: change the Assistant, which makes a new revision"),
    )

    assistant: ObjectName = Field(description="Assistant that it is a revision of.")
    schema_version: int = Field(
        description="Version of the snapshot's form (a count); hashed together with the snapshot.", ge=1, le=INT32_MAX
    )
    digest: Digest = Field(description="sha256 of the RFC 8785 JSON of {schemaVersion, snapshot}.")
    snapshot: Snapshot = Field(
        description="Everything that changes an answer, resolved and self-contained; at most 128 KiB as RFC 8785 JSON."
    )
    provenance: Provenance | None = Field(
        default=None, description="Where it came from; not hashed. Absent: not known."
    )


class AssistantRevisionStatus(BaseStatus):
    """Whether the revision may be served."""

    ordinal: int | None = Field(
        default=None,
        description="Number of the revision for people (r7 is 7; a count from 1). Absent: not numbered yet.",
        ge=1,
        le=INT53_MAX,
    )


class AssistantRevision(Resource):
    """An immutable snapshot of an assistant, named by its content: `<assistant>-<10 hex of its digest>`.

    The same content has the same name in every namespace and cluster.
    """

    KIND: ClassVar[Kind] = Kind(
        kind="AssistantRevision",
        plural="assistantrevisions",
        singular="assistantrevision",
        short_names=("astrev",),
        columns=(
            Column("Assistant", ".spec.assistant", description="Assistant that it is a revision of."),
            Column("Ordinal", ".status.ordinal", "integer", description="Number of the revision for people."),
            Column("Model", ".spec.snapshot.model.name", description="Model that answers."),
            Column("Digest", ".spec.digest", wide=True, description="sha256 of the content."),
            Column("Ready", ".status.conditions[?(@.type=='Ready')].status", description="True: its digest is right."),
            AGE,
        ),
        rules=(
            Rule(
                "self.metadata.name == self.spec.assistant + '-' + self.spec.digest.substring(7, 17)",
                "metadata.name must be <spec.assistant>-<first 10 hex of spec.digest>",
            ),
        ),
    )

    spec: AssistantRevisionSpec = Field(description="Fixed for ever once it is made.")
    status: AssistantRevisionStatus = Field(
        default_factory=AssistantRevisionStatus,
        description="Whether the revision may be served. Written by the operator only.",
    )
