"""The generated files: up to date, within limits, and true to the rules of the project."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from builders import make_assistant, make_deployment, make_model_server, make_revision, make_template
from generate.__main__ import generated, main
from generate.files import difference, stale, write
from retinue.resources.schema import PRESERVE, RESOURCES

pytestmark = pytest.mark.contract

ROOT = Path(__file__).resolve().parents[2]
CRDS = sorted((ROOT / "crds").glob("*.yaml"))
LIMIT = 262144
"""Bytes that `kubectl apply` can keep in its annotation."""


def _load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


def _schema(path: Path) -> dict[str, Any]:
    schema: dict[str, Any] = _load(path)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _fields(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, child in node.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from _fields(child.get("items", child), f"{path}.{name}")


def test_the_generated_files_are_what_the_generator_writes() -> None:
    assert main(["--check"]) == 0


def test_there_is_one_crd_per_kind() -> None:
    assert [p.name for p in CRDS] == sorted(f"retinue.dev_{r.KIND.plural}.yaml" for r in RESOURCES)


@pytest.mark.parametrize("path", CRDS, ids=lambda p: p.stem)
def test_a_crd_fits_into_the_annotation_of_kubectl_apply(path: Path) -> None:
    assert path.stat().st_size < LIMIT


@pytest.mark.parametrize("path", CRDS, ids=lambda p: p.stem)
def test_every_field_has_a_description(path: Path) -> None:
    schema = _schema(path)
    for where, node in _fields(schema, path.stem):
        if not where.endswith(f"{path.stem}.metadata"):
            assert node["description"].endswith((".", ")")), where


@pytest.mark.parametrize("path", CRDS, ids=lambda p: p.stem)
def test_a_description_says_the_unit_of_a_number_and_what_absence_means(path: Path) -> None:
    units = ("second", "byte", "token", "a count", "no unit")
    for root in ("spec", "status"):
        top = _schema(path)["properties"][root]
        for where, node, required in _optional(top, f"{path.stem}.{root}"):
            text = node["description"]
            if node["type"] == "integer":
                assert any(unit in text.lower() for unit in units), where
            said = "Default: " in text or "Absent" in text or "-1: not seen yet" in text
            assert required or said or where.endswith(KNOWN_EMPTY), where


KNOWN_EMPTY = (".conditions", ".conditions.message", ".conditions.observedGeneration")
"""Fields that the operator always writes although the schema does not demand it."""


def _optional(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    required = node.get("required", [])
    for name, child in node.get("properties", {}).items():
        yield f"{path}.{name}", child, name in required
        yield from _optional(child.get("items", child), f"{path}.{name}")


def test_nothing_under_snapshot_has_a_default_and_every_object_keeps_unknown_fields() -> None:
    (path,) = [p for p in CRDS if p.stem.endswith("assistantrevisions")]
    snapshot = _schema(path)["properties"]["spec"]["properties"]["snapshot"]
    assert snapshot[PRESERVE] is True
    for where, node in _fields(snapshot, "snapshot"):
        assert "default" not in node, where
        item = node.get("items", node)
        assert item.get(PRESERVE) is True or item["type"] != "object", where


@pytest.mark.parametrize(
    "obj",
    [make_assistant(), make_template(), make_revision(), make_deployment(), make_model_server()],
    ids=lambda o: o["kind"],
)
def test_the_objects_that_tests_build_fit_the_schemas(obj: dict[str, Any]) -> None:
    (crd,) = [_load(p) for p in CRDS if _load(p)["spec"]["names"]["kind"] == obj["kind"]]
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    Draft202012Validator(_closed(schema)).validate(obj)


def _closed(node: dict[str, Any]) -> dict[str, Any]:
    """The schema with unknown fields refused where they would be pruned; metadata stays open."""
    closed = dict(node)
    if "properties" in node:
        closed["properties"] = {
            name: child if name == "metadata" else _closed(child) for name, child in node["properties"].items()
        }
        if not node.get(PRESERVE):
            closed["additionalProperties"] = False
    if "items" in node:
        closed["items"] = _closed(node["items"])
    return closed


def test_a_changed_a_missing_and_a_left_over_file_are_noticed_and_mended(tmp_path: Path) -> None:
    files = {"crds/a.yaml": "a: 1\n", "crds/b.yaml": "b: 1\n"}
    (tmp_path / "crds").mkdir()
    (tmp_path / "crds" / "a.yaml").write_text("a: 2\n")
    (tmp_path / "crds" / "old.yaml").write_text("old: 1\n")
    found = stale(tmp_path, files, {"crds": "*.yaml"})
    assert found == ["crds/a.yaml", "crds/b.yaml", "crds/old.yaml"]
    assert "-a: 2\n+a: 1\n" in difference(tmp_path, "crds/a.yaml", files)
    for path in found:
        write(tmp_path, path, files)
    assert stale(tmp_path, files, {"crds": "*.yaml"}) == []


def test_every_generated_file_says_so_in_its_first_line() -> None:
    files, _ = generated()
    assert all("Generated by ./hack/gen" in text.splitlines()[0] for text in files.values())
