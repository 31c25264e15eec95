"""Names of models and the registry that serves them."""

import re

import pytest

from retinue.domain.model_name import ModelName, Resolved, parse, resolve
from retinue.domain.violation import Violation
from retinue.resources.platform import ModelRegistry
from retinue.resources.reasons import MODEL_NAME_INVALID, MODEL_REGISTRY_NOT_ALLOWED
from retinue.resources.v1alpha1.content import MODEL_NAME_PATTERN

pytestmark = pytest.mark.unit

OLLAMA = ModelRegistry(host="registry.ollama.ai", default=True)
LOCAL = ModelRegistry(host="registry.models.svc:5000", default=True, insecure=True)
OTHER = ModelRegistry(host="models.example.com")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama3.2", ModelName(None, "library", "llama3.2", "latest")),
        ("llama3.2:3b", ModelName(None, "library", "llama3.2", "3b")),
        ("me/llama:q4_K_M", ModelName(None, "me", "llama", "q4_K_M")),
        ("h.example.com/me/llama", ModelName("h.example.com", "me", "llama", "latest")),
        ("localhost:5000/me/llama:x", ModelName("localhost:5000", "me", "llama", "x")),
        ("localhost:5000/me/llama", ModelName("localhost:5000", "me", "llama", "latest")),
        ("", None),
        ("a/b/c/d", None),
        ("llama:", None),
        ("a//b", None),
        ("-x/y/z", None),
        ("two words", None),
        ("https://h/x/y", None),
        ("localhost:5000/llama", None),
    ],
)
def test_a_name_is_taken_apart_as_ollama_does(name: str, expected: ModelName | None) -> None:
    assert parse(name) == expected
    if expected is not None:
        assert re.match(MODEL_NAME_PATTERN, name)


def test_ollamas_own_registry_needs_no_host_in_front() -> None:
    assert resolve("llama3.2:3b", [OLLAMA, OTHER]) == Resolved(OLLAMA, "library/llama3.2", "3b", "llama3.2:3b")


def test_another_default_registry_is_put_in_front() -> None:
    found = resolve("smollm2", [LOCAL, OTHER])
    assert found == Resolved(LOCAL, "library/smollm2", "latest", "registry.models.svc:5000/library/smollm2:latest")


def test_a_name_with_a_listed_host_is_pulled_as_written() -> None:
    found = resolve("Models.Example.com/me/llama:x", [OLLAMA, OTHER])
    assert found == Resolved(OTHER, "me/llama", "x", "Models.Example.com/me/llama:x")


def test_a_host_that_is_not_listed_is_refused_with_what_is_allowed() -> None:
    found = resolve("evil.example/me/llama", [OLLAMA, OTHER])
    assert isinstance(found, Violation)
    assert (found.reason, found.field) == (MODEL_REGISTRY_NOT_ALLOWED, "spec.model.name")
    assert "registry.ollama.ai, models.example.com" in str(found)
    assert "ask the platform team" in str(found)


def test_what_is_no_name_is_refused_at_the_field_that_was_given() -> None:
    found = resolve("a/b/c/d", [OLLAMA], field="spec.template.model.name")
    assert isinstance(found, Violation)
    assert (found.reason, found.field) == (MODEL_NAME_INVALID, "spec.template.model.name")
