"""AssistantTemplate: named defaults and typed variables, resolved when a revision is made, never at run time."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from retinue.resources.base import ApiModel, Resource
from retinue.resources.conditions import BaseStatus
from retinue.resources.crd import AGE, Column, Kind, Rule, list_map
from retinue.resources.v1alpha1.content import MAX_TEXT, ModelChoice, Options, ResponseFormat, RunnerChoice

VARIABLE_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"


class VariableType(StrEnum):
    """Which texts a variable accepts."""

    STRING = "String"
    INTEGER = "Integer"
    NUMBER = "Number"
    BOOLEAN = "Boolean"


class Variable(ApiModel):
    """One typed place in the template's text that an assistant fills."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.required) && self.required) != has(self.default)",
            "exactly one of `required: true` and `default` must be set",
        ),
    )

    name: str = Field(
        description="Unique name; the text uses it as ${vars.NAME}.",
        pattern=VARIABLE_NAME_PATTERN,
        min_length=1,
        max_length=63,
    )
    type: VariableType = Field(
        description=(
            "String: any text. Integer: a whole number. Number: a decimal number. Boolean: true or false. "
            "Another text is refused."
        )
    )
    required: bool = Field(
        default=False, description="true: every assistant must give a value. Absent or false: `default` is used."
    )
    default: str | None = Field(
        default=None,
        description="Value of an assistant that gives none, as text. Absent only when required is true.",
        max_length=4096,
    )
    allowed: tuple[Annotated[str, Field(max_length=4096)], ...] = Field(
        default=(),
        description="The only values that are accepted, as text. Absent: every value of the type.",
        max_length=64,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    description: str | None = Field(
        default=None, description="What the value means, for people. Absent: none.", max_length=1024
    )


class TemplateText(ApiModel):
    """A text in which variables are replaced."""

    inline: str = Field(
        description=(
            "The text. ${vars.NAME} is replaced by the variable's value; $${ stands for a literal ${. "
            "At most 98304 characters."
        ),
        min_length=1,
        max_length=MAX_TEXT,
    )


class TemplateContent(ApiModel):
    """Values for assistants that set none of their own."""

    model: ModelChoice | None = Field(
        default=None, description="Model of assistants that name none. Absent: they must name one."
    )
    system_prompt: TemplateText | None = Field(
        default=None, description="Instructions of assistants that have none of their own. Absent: none."
    )
    options: Options | None = Field(
        default=None,
        description=(
            "Sampling options; an assistant's own value wins, option by option. Absent: those of the assistant's type."
        ),
    )
    runner: RunnerChoice | None = Field(
        default=None,
        description="Options that make the model reload; an assistant's own value wins. Absent: numCtx 4096.",
    )
    response_format: ResponseFormat | None = Field(
        default=None, description="Form that every answer must have. Absent: Text."
    )


class AssistantTemplateSpec(ApiModel):
    """What a person writes."""

    category: str | None = Field(
        default=None, description="Word to group templates by, for example Writing. Absent: none.", max_length=63
    )
    description: str | None = Field(
        default=None, description="What the template is good for, for people. Absent: none.", max_length=1024
    )
    variables: tuple[Variable, ...] = Field(
        default=(),
        description="Variables that the text uses and assistants fill. Absent: none.",
        max_length=64,
        json_schema_extra=list_map("name"),
    )
    template: TemplateContent = Field(description="Values for assistants that set none of their own.")


class AssistantTemplateStatus(BaseStatus):
    """Whether the template can be used."""


class AssistantTemplate(Resource):
    """Named defaults and typed variables for assistants of the same namespace.

    Resolved when a revision is made, never while answering.
    """

    KIND: ClassVar[Kind] = Kind(
        kind="AssistantTemplate",
        plural="assistanttemplates",
        singular="assistanttemplate",
        short_names=("asttpl",),
        columns=(
            Column("Category", ".spec.category", description="Group of the template."),
            Column("Model", ".spec.template.model.name", description="Model of assistants that name none."),
            Column("Ready", ".status.conditions[?(@.type=='Ready')].status", description="True: it can be used."),
            Column("Status", ".status.conditions[?(@.type=='Ready')].message", description="What Ready says."),
            AGE,
        ),
    )

    spec: AssistantTemplateSpec = Field(description="What a person writes.")
    status: AssistantTemplateStatus = Field(
        default_factory=AssistantTemplateStatus,
        description="Whether the template can be used. Written by the operator only.",
    )
