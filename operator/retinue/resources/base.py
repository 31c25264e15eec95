"""Bases of every model: camelCase outside, snake_case inside, frozen; unknown fields of live objects are ignored."""

from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any, ClassVar, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, PlainSerializer
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from retinue.resources.crd import Kind, Rule
from retinue.resources.meta import API_VERSION

INT32_MAX = 2**31 - 1
INT53_MAX = 2**53 - 1
DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"


def rfc3339(moment: datetime) -> str:
    """The form in which Kubernetes writes times: UTC, whole seconds, `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Time = Annotated[AwareDatetime, PlainSerializer(rfc3339, when_used="json", return_type=str)]
"""A point in time with its zone; written with whole seconds in UTC."""
Digest = Annotated[str, Field(pattern=DIGEST_PATTERN, max_length=71)]
"""`sha256:` and 64 lower-case hex digits."""
ObjectName = Annotated[str, Field(pattern=NAME_PATTERN, min_length=1, max_length=63)]
"""Name of an object in the same namespace."""


class ApiModel(BaseModel):
    """Base of every part of a custom resource."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    RULES: ClassVar[tuple[Rule, ...]] = ()
    """CEL rules over one value of this class."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Puts the rules of the class where `schema.py` finds them."""
        produced = handler(schema)
        if cls.RULES:
            handler.resolve_ref_schema(produced)["x-kubernetes-validations"] = [r.to_schema() for r in cls.RULES]
        return produced

    def to_object(self) -> dict[str, Any]:
        """Plain camelCase JSON values; what is None or an empty list is absent, free-form objects stay as they are."""
        plain: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value is not None and value != ():
                plain[field.alias or name] = _plain(value)
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, ApiModel):
        return value.to_object()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return rfc3339(value)
    return value


class ObjectMeta(ApiModel):
    """The part of `metadata` that retinue reads."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    """0: not stored yet. Raised by the API server on every change of spec."""
    resource_version: str = ""
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    """Set: the object is being deleted."""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)

    def to_object(self) -> dict[str, Any]:
        """As it would be sent: what is not set is absent."""
        plain = super().to_object()
        return {key: item for key, item in plain.items() if item not in ("", 0, {})}


class Resource(ApiModel):
    """Base of every custom resource. Subclasses narrow `spec` and `status` and declare `KIND`."""

    KIND: ClassVar[Kind]

    api_version: str = API_VERSION
    kind: str = ""
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)

    @property
    def name(self) -> str:
        """Short for `metadata.name`."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """Short for `metadata.namespace`."""
        return self.metadata.namespace

    @property
    def deleting(self) -> bool:
        """True from the moment on that somebody asked for its deletion."""
        return self.metadata.deletion_timestamp is not None

    @classmethod
    def from_object(cls, obj: dict[str, Any]) -> Self:
        """Reads a live object or a manifest.

        Raises pydantic.ValidationError when it does not fit the schema, which the API server never lets in.
        """
        return cls.model_validate({**obj, "kind": obj.get("kind") or cls.KIND.kind})

    def to_object(self) -> dict[str, Any]:
        """The whole object as plain camelCase JSON values, for `kubectl apply` and server-side apply."""
        plain = super().to_object()
        plain["metadata"] = self.metadata.to_object()
        plain["kind"] = self.KIND.kind
        return plain
