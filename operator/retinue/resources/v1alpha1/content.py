"""What makes an answer: the parts that an Assistant, a template and a revision share, and the snapshot itself.

The whole snapshot schema of version 1 stands here from the start. A part enters the Assistant's spec with the feature
that gives it an effect; until then only the revision's schema knows it.
"""

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field, JsonValue

from retinue.resources.base import INT32_MAX, ApiModel, Digest, ObjectName
from retinue.resources.crd import Rule, list_map, list_set

MODEL_NAME_PATTERN = (
    r"^[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,5})?(/[A-Za-z0-9_][A-Za-z0-9._-]*){0,2}(:[A-Za-z0-9_][A-Za-z0-9._-]*)?$"
)
FROM_0_TO_1 = r"^(0(\.[0-9]{1,6})?|1(\.0{1,6})?)$"
FROM_0_TO_2 = r"^([01](\.[0-9]{1,6})?|2(\.0{1,6})?)$"
MAX_TEXT = 98304
MAX_CONTEXT = 1048576

ModelName = Annotated[str, Field(pattern=MODEL_NAME_PATTERN, min_length=1, max_length=253)]
Free = dict[str, Any]
"""A JSON object of the user's own shape, kept as it is."""
FREE: dict[str, JsonValue] = {"x-kubernetes-preserve-unknown-fields": True}


class Model(ApiModel):
    """A model whose content is fixed: the digest says which bytes, the name where they come from."""

    name: ModelName = Field(description="Name of the model as written: [host/][namespace/]model[:tag].")
    digest: Digest = Field(description="sha256 of the manifest bytes that the registry served under the name.")


class ModelChoice(ApiModel):
    """A model as a person chooses it."""

    name: ModelName = Field(
        description=(
            "Name of the model: [host/][namespace/]model[:tag]. Without a host the default registry of the "
            "installation is used, without a tag `latest`. The name stands in the revision exactly as written here."
        )
    )
    digest: Digest | None = Field(
        default=None,
        description=(
            "sha256 of the model's manifest. Absent: looked up once per generation at the registry. "
            "Set: no registry is asked."
        ),
    )


class Options(ApiModel):
    """Sampling options. They go with each request and never make the model reload."""

    temperature: str | None = Field(
        default=None,
        description=(
            'Randomness of the answer, a decimal number from 0 to 2 in quotes ("0.7"; no unit). 0: always the '
            "likeliest token. Absent in a revision: not sent, the model's own value holds."
        ),
        pattern=FROM_0_TO_2,
        max_length=8,
    )
    top_p: str | None = Field(
        default=None,
        description=(
            "Only the likeliest tokens whose probabilities add up to this share are considered, from 0 to 1 in "
            'quotes ("0.9"; no unit). Absent in a revision: not sent.'
        ),
        pattern=FROM_0_TO_1,
        max_length=8,
    )
    top_k: int | None = Field(
        default=None,
        description="Only this many of the likeliest tokens are considered (a count). Absent in a revision: not sent.",
        ge=0,
        le=100000,
    )
    min_p: str | None = Field(
        default=None,
        description=(
            "Tokens less likely than this share of the likeliest one are dropped, from 0 to 1 in quotes "
            '("0.05"; no unit). Absent in a revision: not sent.'
        ),
        pattern=FROM_0_TO_1,
        max_length=8,
    )
    repeat_penalty: str | None = Field(
        default=None,
        description=(
            'How strongly repeated tokens are made less likely, from 0 to 2 in quotes ("1.1"; no unit; 1: not at '
            "all). Absent in a revision: not sent."
        ),
        pattern=FROM_0_TO_2,
        max_length=8,
    )
    seed: int | None = Field(
        default=None,
        description=(
            "Start of the random numbers (no unit); the same seed gives the same answer to the same request. "
            "Absent in a revision: not sent."
        ),
        ge=0,
        le=INT32_MAX,
    )
    max_tokens: int | None = Field(
        default=None,
        description="Longest answer in tokens. Absent in a revision: not sent, the model ends by itself.",
        ge=1,
        le=MAX_CONTEXT,
    )
    stop: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] | None = Field(
        default=None,
        description="Texts that end the answer when the model writes one of them. Absent in a revision: not sent.",
        min_length=1,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


NUM_CTX_TEXT = "Size of the context window in tokens: prompt, history and answer together."
SHIFT_TEXT = (
    "What happens when an answer outgrows the context window. true: the oldest part is dropped and the model goes on; "
    "false: the answer ends. Absent: not sent, the model server's own way."
)


class Runner(ApiModel):
    """Options that change answers and make a model reload: constants of a ModelServer."""

    num_ctx: int = Field(description=NUM_CTX_TEXT, ge=256, le=MAX_CONTEXT)
    shift: bool | None = Field(default=None, description=SHIFT_TEXT)


class RunnerChoice(ApiModel):
    """`runner` as a person chooses it."""

    num_ctx: int | None = Field(
        default=None,
        description=f"{NUM_CTX_TEXT} Absent: the template's, else 4096.",
        ge=256,
        le=MAX_CONTEXT,
    )
    shift: bool | None = Field(default=None, description=SHIFT_TEXT)


class ResponseFormatType(StrEnum):
    """Form of the answer."""

    TEXT = "Text"
    JSON = "JSON"
    JSON_SCHEMA = "JSONSchema"


class ResponseFormat(ApiModel):
    """What form an answer must have."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.schema) == (self.type == 'JSONSchema')",
            "schema must be set when type is JSONSchema, and only then",
        ),
    )

    type: ResponseFormatType = Field(
        description="Text: no constraint. JSON: any JSON value. JSONSchema: JSON that fits `schema`."
    )
    json_schema: Free | None = Field(
        default=None,
        alias="schema",
        description="JSON Schema of the answer, as an object without any null. Absent: type is not JSONSchema.",
        json_schema_extra=FREE,
    )


class ConfigMapKeyRef(ApiModel):
    """One key of a ConfigMap in the same namespace."""

    name: str = Field(
        description="Name of a ConfigMap in the same namespace.",
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        min_length=1,
        max_length=253,
    )
    key: str = Field(
        description="Key in its `data`; the text is read once, when the revision is made.",
        pattern=r"^[-._a-zA-Z0-9]+$",
        min_length=1,
        max_length=253,
    )


class TextSource(ApiModel):
    """A text: written here, or kept in a ConfigMap."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.inline) != has(self.configMapKeyRef)",
            "exactly one of inline and configMapKeyRef must be set",
        ),
    )

    inline: str | None = Field(
        default=None,
        description="The text itself, at most 98304 characters. Taken literally: no variables. "
        "Absent: configMapKeyRef is set.",
        min_length=1,
        max_length=MAX_TEXT,
    )
    config_map_key_ref: ConfigMapKeyRef | None = Field(
        default=None,
        description=(
            "A ConfigMap of the same namespace that holds the text. The text is copied into the revision. "
            "Absent: inline is set."
        ),
    )


class PromptRole(StrEnum):
    """When a prompt is used."""

    PRIMARY = "Primary"
    SECONDARY = "Secondary"
    FALLBACK = "Fallback"


class Prompt(ApiModel):
    """One final prompt text of a revision."""

    name: ObjectName = Field(description="Unique name of the prompt in this revision.")
    role: PromptRole = Field(description="Primary, Secondary or Fallback: in which order prompts are considered.")
    weight: int | None = Field(
        default=None,
        description="Share of the prompt among those of its role (no unit). Absent: 1.",
        ge=0,
        le=1000,
    )
    when: str | None = Field(
        default=None,
        description="Condition under which the prompt is used. Absent: always.",
        max_length=4096,
    )
    text: str = Field(description="The final text, variables and ConfigMaps resolved.", max_length=131072)


class Tool(ApiModel):
    """One function that the model may ask its caller to run."""

    name: str = Field(
        description="Unique name of the tool in this revision.",
        pattern=r"^[a-zA-Z0-9_-]+$",
        min_length=1,
        max_length=64,
    )
    description: str | None = Field(
        default=None, description="What the tool does, for the model. Absent: not sent.", max_length=4096
    )
    parameters: Free | None = Field(
        default=None,
        description="JSON Schema of its arguments, as an object. Absent: no arguments.",
        json_schema_extra=FREE,
    )


class MemoryStrategy(StrEnum):
    """What happens to old turns of a conversation."""

    NONE = "None"
    DROP_OLDEST = "DropOldest"
    SUMMARISE = "Summarise"


class Memory(ApiModel):
    """How much of a conversation goes with a request."""

    strategy: MemoryStrategy = Field(
        description="None: everything is sent. DropOldest: old turns are left out. Summarise: they are summarised."
    )
    max_tokens: int | None = Field(
        default=None, description="Most tokens of history. Absent: no such bound.", ge=1, le=MAX_CONTEXT
    )
    keep_messages: int | None = Field(
        default=None,
        description="Newest messages that always stay (a count). Absent: no such bound.",
        ge=0,
        le=10000,
    )
    summary_tokens: int | None = Field(
        default=None, description="Longest summary in tokens. Absent: no such bound.", ge=1, le=MAX_CONTEXT
    )


class Capability(StrEnum):
    """A way of asking that the gateway lets through."""

    CHAT = "Chat"
    COMPLETION = "Completion"
    EMBEDDINGS = "Embeddings"
    TOOLS = "Tools"
    IMAGES = "Images"


class Snapshot(ApiModel):
    """Everything that changes an answer, resolved and self-contained (schemaVersion 1)."""

    model: Model = Field(description="The model, by name and by content.")
    options: Options | None = Field(
        default=None, description="Sampling options, sent with each request. Absent: none is sent."
    )
    runner: Runner = Field(description="Options that make the model reload: constants of its ModelServer.")
    prompts: tuple[Prompt, ...] = Field(
        default=(),
        description="Final prompt texts. Absent: no system prompt.",
        max_length=16,
        json_schema_extra=list_map("name"),
    )
    tools: tuple[Tool, ...] = Field(
        default=(),
        description="Tools that are offered to the model. Absent: none.",
        max_length=64,
        json_schema_extra=list_map("name"),
    )
    response_format: ResponseFormat | None = Field(
        default=None, description="Form that the answer must have. Absent: Text."
    )
    memory: Memory | None = Field(
        default=None, description="How much of a conversation goes with a request. Absent: strategy None."
    )
    capabilities: tuple[Capability, ...] = Field(
        description="What the gateway lets through: a sorted set.",
        min_length=1,
        max_length=16,
        json_schema_extra=list_set(),
    )
    client_overrides: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        default=(),
        description="Options that a client may set, never above the revision's value: a sorted set. Absent: none.",
        max_length=16,
        json_schema_extra=list_set(),
    )
