"""Every manifest under examples/ fits the CRDs, without a field that the API server would drop."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

pytestmark = pytest.mark.contract

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
OF_KUBERNETES = {"Namespace", "ConfigMap"}
"""Kinds in the examples that are not ours; the real API server checks them in tests/api."""


def strict(node: Any) -> Any:
    """The schema with every unknown field an error, where the API server would silently drop it."""
    if isinstance(node, list):
        return [strict(part) for part in node]
    if not isinstance(node, dict):
        return node
    copy = {key: strict(value) for key, value in node.items()}
    keeps = node.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in node
    if node.get("type") == "object" and "properties" in node and not keeps:
        copy["additionalProperties"] = False
    return copy


def schemas() -> dict[str, Any]:
    found = {}
    for path in (ROOT / "crds").glob("*.yaml"):
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]
        schema = strict(spec["versions"][0]["schema"]["openAPIV3Schema"])
        schema["properties"]["metadata"] = {"type": "object"}
        found[spec["names"]["kind"]] = schema
    return found


SCHEMAS = schemas()
DOCUMENTS = [
    pytest.param(document, id=f"{path.relative_to(EXAMPLES)}:{document['kind']}")
    for path in sorted(EXAMPLES.rglob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_fits_its_schema(document: dict[str, Any]) -> None:
    if document["kind"] in OF_KUBERNETES:
        return
    errors = [
        f"{'.'.join(map(str, e.absolute_path))}: {e.message}"
        for e in Draft202012Validator(SCHEMAS[document["kind"]]).iter_errors(document)
    ]
    assert errors == []


def test_an_unknown_field_would_be_found() -> None:
    document = {"apiVersion": "retinue.dev/v1alpha1", "kind": "Assistant", "metadata": {}, "spec": {"modell": {}}}
    assert not Draft202012Validator(SCHEMAS["Assistant"]).is_valid(document)


def test_every_file_is_yaml_and_the_folders_are_those_of_the_documents() -> None:
    assert [p for p in EXAMPLES.rglob("*") if p.is_file() and p.suffix != ".yaml"] == []
    assert {p.name for p in EXAMPLES.iterdir()} == {"quickstart", "template", "dedicated", "presets"}
