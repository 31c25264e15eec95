"""Assistant: the mutable authoring object. Each change of what makes an answer becomes a revision."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from retinue.resources.base import INT53_MAX, ApiModel, Digest, ObjectName, Resource
from retinue.resources.conditions import BaseStatus
from retinue.resources.crd import AGE, Column, Kind, Rule, list_map, list_set, rules
from retinue.resources.v1alpha1.assistanttemplate import VARIABLE_NAME_PATTERN
from retinue.resources.v1alpha1.content import (
    ModelChoice,
    Options,
    ResponseFormat,
    RunnerChoice,
    TextSource,
)

NAME_AT_MOST_40 = Rule(
    "self.metadata.name.size() <= 40",
    "metadata.name must have at most 40 characters: names of revisions and labels are made from it",
)


class AssistantType(StrEnum):
    """What an assistant is for. Sets default options and is a usage dimension."""

    GENERAL = "General"
    SPECIALIZED = "Specialized"
    CONVERSATIONAL = "Conversational"
    TASK_ORIENTED = "TaskOriented"
    ANALYTICAL = "Analytical"
    CREATIVE = "Creative"
    SUPPORT = "Support"
    EDUCATIONAL = "Educational"


class Lifecycle(StrEnum):
    """Draft -> Active <-> Inactive; both -> Archived, which is final."""

    DRAFT = "Draft"
    ACTIVE = "Active"
    INACTIVE = "Inactive"
    ARCHIVED = "Archived"


class TemplateRef(ApiModel):
    """Names the template that an assistant builds on."""

    name: ObjectName = Field(description="Name of an AssistantTemplate in the same namespace.")


class VariableValue(ApiModel):
    """The value of one variable of the template."""

    name: str = Field(
        description="Name of a variable that the template declares.",
        pattern=VARIABLE_NAME_PATTERN,
        min_length=1,
        max_length=63,
    )
    value: str = Field(
        description=(
            "Its value as text, in quotes where YAML would read a number or a boolean. Must fit the declared type."
        ),
        max_length=4096,
    )


class AssistantSpec(ApiModel):
    """What a person writes."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.variables) || has(self.templateRef)",
            "variables need a template: set templateRef, or remove variables",
            ".variables",
        ),
    )

    type: AssistantType = Field(
        default=AssistantType.GENERAL,
        description=(
            "What the assistant is for. Sets the options that neither the assistant nor its template sets: "
            "temperature (General 0.7, Specialized 0.3, Conversational 0.8, TaskOriented 0.2, Analytical 0.2, "
            "Creative 1 with topP 0.95, Support 0.3, Educational 0.5)."
        ),
    )
    lifecycle: Lifecycle = Field(
        default=Lifecycle.ACTIVE,
        description=(
            "Only Active makes revisions. Draft: being written. Inactive or Archived: deployments that follow "
            "`latest` stop answering. Draft -> Active <-> Inactive; Active and Inactive -> Archived, which is final."
        ),
        json_schema_extra=rules(
            Rule(
                "self == oldSelf || (oldSelf + '>' + self) in "
                "['Draft>Active', 'Active>Inactive', 'Inactive>Active', 'Active>Archived', 'Inactive>Archived']",
                "lifecycle can only go Draft -> Active, Active <-> Inactive, Active or Inactive -> Archived",
            )
        ),
    )
    template_ref: TemplateRef | None = Field(
        default=None,
        description=(
            "Template whose values are used where this object sets none. Absent: no template. Resolved when a "
            "revision is made, never while answering."
        ),
    )
    variables: tuple[VariableValue, ...] = Field(
        default=(),
        description="Values of the template's variables. Absent: each has its default.",
        max_length=64,
        json_schema_extra=list_map("name"),
    )
    model: ModelChoice | None = Field(
        default=None,
        description="The model that answers, with name and digest taken together. Absent: the template's.",
    )
    system_prompt: TextSource | None = Field(
        default=None,
        description="Instructions that stand before every conversation. Absent: the template's, else none.",
    )
    options: Options | None = Field(
        default=None,
        description=(
            "Sampling options. Absent, as a whole or one by one: the template's, else those of `type`, else not sent "
            "and the model's own value holds."
        ),
    )
    runner: RunnerChoice | None = Field(
        default=None,
        description=(
            "Options that make the model reload; assistants share model pods only when these agree. "
            "Absent: the template's, else numCtx 4096."
        ),
    )
    response_format: ResponseFormat | None = Field(
        default=None, description="Form that every answer must have. Absent: the template's, else Text."
    )
    tags: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", max_length=63)], ...] = (
        Field(
            default=(),
            description="Words to find and count assistants by. They change no answer and no revision. Absent: none.",
            max_length=32,
            json_schema_extra=list_set(),
        )
    )
    revision_history_limit: int = Field(
        default=20,
        description="Revisions made by the operator that are kept although nothing names them any more (a count).",
        ge=2,
        le=100,
    )


class ResolvedModel(ApiModel):
    """What the model's name meant when it was looked up."""

    name: str = Field(description="Name that was looked up.", max_length=253)
    digest: Digest = Field(description="sha256 of the manifest that was found or given.")
    generation: int = Field(
        description="metadata.generation for which it was looked up (a count); never looked up again for the same.",
        ge=0,
        le=INT53_MAX,
    )


class AssistantStatus(BaseStatus):
    """What the operator found and made."""

    latest_revision: str | None = Field(
        default=None,
        description="Name of the AssistantRevision that holds the present content. Absent: none was made yet.",
        max_length=63,
    )
    latest_ordinal: int | None = Field(
        default=None,
        description="Number of that revision for people (r7 is 7; a count from 1). Absent: none was made yet.",
        ge=1,
        le=INT53_MAX,
    )
    model: ResolvedModel | None = Field(
        default=None, description="The model as it was resolved. Absent: not resolved yet."
    )


class Assistant(Resource):
    """An AI assistant as it is written: type, lifecycle, model, prompt and options.

    It is configuration and has no pod; an AssistantDeployment makes it answer.
    """

    KIND: ClassVar[Kind] = Kind(
        kind="Assistant",
        plural="assistants",
        singular="assistant",
        short_names=("ast",),
        columns=(
            Column("Model", ".status.model.name", description="Model that was resolved."),
            Column("Revision", ".status.latestRevision", description="Revision of the present content."),
            Column("Lifecycle", ".spec.lifecycle", description="Draft, Active, Inactive or Archived."),
            Column("Ready", ".status.conditions[?(@.type=='Ready')].status", description="True: its revision exists."),
            Column("Status", ".status.conditions[?(@.type=='Ready')].message", description="What Ready says."),
            AGE,
        ),
        rules=(NAME_AT_MOST_40,),
    )

    spec: AssistantSpec = Field(default_factory=AssistantSpec, description="What a person writes.")
    status: AssistantStatus = Field(
        default_factory=AssistantStatus, description="What the operator found and made. Written by the operator only."
    )
