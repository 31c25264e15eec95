"""The generator of CRDs: what it rewrites and what it refuses."""

from typing import Annotated, Any, ClassVar

import pytest
from pydantic import Field

from retinue.resources.base import ApiModel, Resource
from retinue.resources.conditions import BaseStatus
from retinue.resources.crd import Kind, Rule, list_map, rules
from retinue.resources.schema import SchemaError, crd_of, structural

pytestmark = pytest.mark.unit

KIND = Kind(kind="Thing", plural="things", singular="thing", short_names=("th",), columns=())


class Part(ApiModel):
    """A part."""

    RULES: ClassVar[tuple[Rule, ...]] = (Rule("has(self.size)", "size must be set"),)

    size: int | None = Field(default=None, description="How large, in bytes. Absent: unknown.", ge=0, le=10)
    label: str = Field(default="none", description="A word.", max_length=10)


class ThingSpec(ApiModel):
    """Spec."""

    part: Part | None = Field(
        default=None, description="The part. Absent: none.", json_schema_extra=rules(Rule("true", "never"))
    )
    parts: tuple[Part, ...] = Field(
        default=(), description="More. Absent: none.", max_length=3, json_schema_extra=list_map("label")
    )
    big: int = Field(default=5, description="A number (a count).", ge=0, le=2**53 - 1)
    flag: bool = Field(default=True, description="Whether.")


class Thing(Resource):
    """A thing
    on two lines."""

    KIND: ClassVar[Kind] = KIND

    spec: ThingSpec = Field(description="Spec.")
    status: BaseStatus = Field(default_factory=BaseStatus, description="Status.")


def _thing(**fields: Any) -> type[Resource]:
    spec = type(
        "OtherSpec",
        (ApiModel,),
        {
            "__doc__": "Spec.",
            "__annotations__": {name: annotation for name, (annotation, _) in fields.items()},
            **{name: field for name, (_, field) in fields.items()},
        },
    )
    return type(
        "Other",
        (Resource,),
        {
            "__doc__": "Other.",
            "KIND": KIND,
            "__annotations__": {"KIND": ClassVar[Kind], "spec": spec, "status": BaseStatus},
            "spec": Field(description="Spec."),
            "status": Field(default_factory=BaseStatus, description="Status."),
        },
    )


def test_references_null_branches_and_titles_are_gone() -> None:
    spec = structural(Thing)["properties"]["spec"]
    assert spec["properties"]["part"] == {
        "type": "object",
        "description": "The part. Absent: none.",
        "x-kubernetes-validations": [
            {"rule": "has(self.size)", "message": "size must be set"},
            {"rule": "true", "message": "never"},
        ],
        "properties": {
            "size": {
                "type": "integer",
                "description": "How large, in bytes. Absent: unknown.",
                "format": "int32",
                "minimum": 0,
                "maximum": 10,
            },
            "label": {"type": "string", "description": "A word. Default: none.", "default": "none", "maxLength": 10},
        },
    }
    assert "required" not in spec


def test_defaults_stand_on_scalars_and_in_their_texts_but_not_inside_lists() -> None:
    fields = structural(Thing)["properties"]["spec"]["properties"]
    assert fields["big"]["default"] == 5
    assert fields["big"]["format"] == "int64"
    assert fields["flag"]["description"] == "Whether. Default: true."
    assert "default" not in fields["parts"]
    assert "default" not in fields["parts"]["items"]["properties"]["label"]
    assert fields["parts"]["x-kubernetes-list-map-keys"] == ["label"]


def test_the_status_is_unseen_by_default_and_has_no_other_default() -> None:
    status = structural(Thing)["properties"]["status"]
    assert status["default"] == {"observedGeneration": -1}
    assert "default" not in status["properties"]["observedGeneration"]


def test_a_crd_names_its_views() -> None:
    crd = crd_of(Thing)
    assert crd["metadata"] == {"name": "things.retinue.dev", "annotations": {"retinue.dev/schema": "1"}}
    assert crd["spec"]["names"]["categories"] == ["retinue"]
    assert crd["spec"]["versions"][0]["subresources"] == {"status": {}}
    assert crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] == "A thing on two lines."


@pytest.mark.parametrize(
    ("field", "cause"),
    [
        ((str, Field(max_length=3)), "description"),
        ((str, Field(description="x")), "max_length"),
        ((int, Field(description="x", ge=0)), "ge and le"),
        ((int, Field(description="x", gt=0, le=3)), "exclusiveMinimum"),
        ((tuple[bool, ...], Field(description="x")), "max_length"),
        ((int | str, Field(description="x", ge=0, le=1, max_length=3)), "union"),
        ((dict[str, Any], Field(description="x")), "must keep unknown"),
        ((Any, Field(description="x")), "no type"),
        ((Annotated[float, Field(multiple_of=2)], Field(description="x")), "multipleOf"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_field_that_cannot_stand_in_a_crd_is_refused(field: tuple[Any, Any], cause: str) -> None:
    with pytest.raises(SchemaError, match=cause):
        structural(_thing(field=field))


def test_a_default_under_snapshot_is_refused_because_it_would_change_digests() -> None:
    with pytest.raises(SchemaError, match=r"spec\.snapshot\.label: no default may stand under snapshot"):
        structural(_thing(snapshot=(Part, Field(description="x"))))


def test_everything_under_snapshot_keeps_what_it_does_not_know() -> None:
    class Inner(ApiModel):
        """Inner."""

        a: bool = Field(description="a")

    class Content(ApiModel):
        """Content."""

        inner: Inner = Field(description="i")
        many: tuple[Inner, ...] = Field(description="m", max_length=2)

    snapshot = structural(_thing(snapshot=(Content, Field(description="x"))))["properties"]["spec"]["properties"]
    keeps = "x-kubernetes-preserve-unknown-fields"
    inside = snapshot["snapshot"]["properties"]
    assert snapshot["snapshot"][keeps] is inside["inner"][keeps] is inside["many"]["items"][keeps] is True
