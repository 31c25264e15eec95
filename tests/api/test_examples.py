"""The examples on the real API server: applied twice, nothing is written the second time."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.cluster import Cluster

pytestmark = pytest.mark.api

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def folder(tmp_path: Path, namespace: str) -> Path:
    """All examples, with the namespace of this test instead of theirs."""
    for path in sorted(EXAMPLES.rglob("*.yaml")):
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        for document in documents:
            place = document["metadata"]
            if document["kind"] == "Namespace":
                place["name"] = namespace
            elif "namespace" in place:
                place["namespace"] = namespace
        (tmp_path / "-".join(path.relative_to(EXAMPLES).parts)).write_text(yaml.safe_dump_all(documents))
    return tmp_path


def versions(cluster: Cluster, folder: Path, namespace: str) -> dict[str, str]:
    items: list[dict[str, Any]] = json.loads(
        cluster.kubectl("get", "-f", str(folder), f"--namespace={namespace}", "-o", "json")
    )["items"]
    return {f"{o['kind']}/{o['metadata']['name']}": o["metadata"]["resourceVersion"] for o in items}


def looked_at(cluster: Cluster, folder: Path, namespace: str) -> None:
    """What the operator does first. Until then the API server stores no status, only its default on the way out, so
    that the first server-side apply after the creation writes the default once.
    """
    for path in folder.iterdir():
        for document in yaml.safe_load_all(path.read_text()):
            if document["apiVersion"].startswith("retinue.dev/"):
                name = f"{document['kind']}.retinue.dev/{document['metadata']['name']}"
                patch = '{"status":{"observedGeneration":1}}'
                cluster.kubectl(
                    "patch", name, "-n", namespace, "--subresource=status", "--type=merge", f"--patch={patch}"
                )


@pytest.mark.parametrize("mode", [(), ("--server-side", "--force-conflicts")], ids=["client side", "server side"])
def test_applying_the_examples_again_shows_no_diff_and_writes_nothing(
    control_plane: Cluster, folder: Path, namespace: str, mode: tuple[str, ...]
) -> None:
    where = ("-f", str(folder), f"--namespace={namespace}", *mode)
    control_plane.kubectl("apply", *where)
    looked_at(control_plane, folder, namespace)
    before = versions(control_plane, folder, namespace)
    assert len(before) == sum(len(list(yaml.safe_load_all(p.read_text()))) for p in folder.iterdir())

    control_plane.kubectl("apply", *where)

    assert control_plane.kubectl("diff", *where) == ""
    assert versions(control_plane, folder, namespace) == before


def test_no_field_of_the_examples_is_dropped(control_plane: Cluster, folder: Path, namespace: str) -> None:
    control_plane.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(folder), "-n", namespace)
