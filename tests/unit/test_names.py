"""Computed names: readable, valid, and different whenever what they stand for is different."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retinue.domain.names import label_value, model_server_key, model_server_name, model_server_spec, slug
from retinue.resources.v1alpha1.content import Model, Runner

pytestmark = pytest.mark.unit

LABEL = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
VALUE = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
DIGEST = "sha256:" + "ab" * 32
MODEL = Model(name="llama3.2:3b", digest=DIGEST)
RUNNER = Runner(num_ctx=8192)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("llama3.2:3b", "llama3-2-3b"),
        ("registry:5000/library/SmolLM2:135M", "registry-5000-library-smollm2"),
        ("7b", "m-7b"),
        ("...", "m"),
        ("x" * 40, "x" * 30),
    ],
)
def test_a_slug_is_readable(text: str, expected: str) -> None:
    assert slug(text) == expected


@given(st.text())
def test_a_slug_of_any_text_is_a_dns_label(text: str) -> None:
    assert LABEL.match(slug(text))
    assert len(slug(text)) <= 30


@given(st.text())
def test_a_label_value_of_any_text_is_valid(text: str) -> None:
    assert VALUE.match(label_value(text))
    assert len(label_value(text)) <= 63


def test_a_valid_label_value_stays_as_it_is_and_others_stay_apart() -> None:
    assert label_value("payments") == "payments"
    assert label_value("a/b") != label_value("a-b")
    assert label_value("y" * 64) != label_value("y" * 65)


def test_the_key_of_a_model_server_is_fixed_for_ever() -> None:
    key = model_server_key(MODEL, RUNNER, profile="small-cpu", pool="payments/production")
    assert key == "sha256:02190d996b43ab0bdb0c1d3d879770f02a599deed4abc1f5b720effd8884b2ab"
    assert model_server_name("llama3.2:3b", key) == f"llama3-2-3b-{key[7:17]}"


def test_every_part_of_the_key_tells_servers_apart() -> None:
    keys = [
        model_server_key(MODEL, RUNNER, profile="a", pool="t/e"),
        model_server_key(MODEL, RUNNER, profile="b", pool="t/e"),
        model_server_key(MODEL, RUNNER, external_server="a", pool="t/e"),
        model_server_key(MODEL, RUNNER, profile="a", pool="t/f"),
        model_server_key(MODEL, RUNNER, profile="a", pool="t/e", dedicated_to="ns/name"),
        model_server_key(MODEL, Runner(num_ctx=4096), profile="a", pool="t/e"),
        model_server_key(MODEL, Runner(num_ctx=8192, shift=False), profile="a", pool="t/e"),
        model_server_key(Model(name="llama3.2", digest=DIGEST), RUNNER, profile="a", pool="t/e"),
        model_server_key(Model(name="llama3.2:3b", digest="sha256:" + "00" * 32), RUNNER, profile="a", pool="t/e"),
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("both", [{}, {"profile": "a", "external_server": "b"}])
def test_a_key_needs_a_profile_or_an_external_server(both: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        model_server_key(MODEL, RUNNER, pool="t/e", **both)


def test_a_spec_holds_its_own_key() -> None:
    spec = model_server_spec(MODEL, RUNNER, profile="a", pool="t/e", dedicated_to="ns/name")
    assert spec.key == model_server_key(MODEL, RUNNER, profile="a", pool="t/e", dedicated_to="ns/name")
    assert "externalServer" not in spec.to_object()
