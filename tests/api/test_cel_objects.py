"""The kinds on the real API server: defaults, pruning, explain texts, columns, scale, names."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builders import (
    condition,
    make_assistant,
    make_deployment,
    make_model_server,
    make_revision,
    make_snapshot,
    make_template,
)
from kinds_api import KindsApi
from retinue.domain.presets import all_presets
from retinue.domain.revision import digest_of, verify_revision
from retinue.resources.schema import RESOURCES, structural
from retinue.resources.v1alpha1.assistant import Assistant
from retinue.resources.v1alpha1.assistantdeployment import AssistantDeployment
from retinue.resources.v1alpha1.assistantrevision import AssistantRevision
from retinue.resources.v1alpha1.assistanttemplate import AssistantTemplate
from retinue.resources.v1alpha1.modelserver import ModelServer
from testbed.cluster import Cluster

pytestmark = pytest.mark.api

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "presets"
GOOD = (
    (Assistant, make_assistant()),
    (AssistantTemplate, make_template()),
    (AssistantRevision, make_revision()),
    (AssistantDeployment, make_deployment()),
    (ModelServer, make_model_server()),
)


@pytest.fixture
def api(control_plane: Cluster, namespace: str) -> Iterator[KindsApi]:
    client = KindsApi(control_plane, namespace)
    yield client
    client.close()


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda r: r.__name__)
def test_kubectl_explain_has_a_text_for_every_field(control_plane: Cluster, resource: Any) -> None:
    for path in _objects(structural(resource), resource.KIND.plural):
        shown = control_plane.kubectl("explain", path, "--api-version=retinue.dev/v1alpha1")
        assert "<no description>" not in shown, path
        assert "DESCRIPTION:" in shown, path
        assert "FIELDS:" in shown, path


def _objects(node: dict[str, Any], path: str) -> Iterator[str]:
    yield path
    for name, child in node.get("properties", {}).items():
        inner = child.get("items", child)
        if name != "metadata" and inner.get("properties"):
            yield from _objects(inner, f"{path}.{name}")


def test_every_object_is_stored_with_the_unseen_status_and_read_back(api: KindsApi) -> None:
    for resource, obj in GOOD:
        created = api.create({key: value for key, value in obj.items() if key != "status"})
        assert created.code == 201, created.message
        assert created.body["status"] == {"observedGeneration": -1}
        read = resource.from_object(created.body)
        assert read.status.observed_generation == -1
        assert read.metadata.uid == created.body["metadata"]["uid"]


def test_defaults_are_written_into_user_kinds(api: KindsApi) -> None:
    assistant = api.create(make_assistant(spec={"type": None, "lifecycle": None, "revisionHistoryLimit": None})).body
    assert assistant["spec"]["type"] == "General"
    assert assistant["spec"]["lifecycle"] == "Active"
    assert assistant["spec"]["revisionHistoryLimit"] == 20
    spec = {"replicas": None, "suspend": None, "runtime": {}, "deadlines": {}}
    deployment = api.create(make_deployment(spec=spec)).body["spec"]
    assert deployment["replicas"] == 1
    assert deployment["suspend"] is False
    assert deployment["runtime"] == {"sharing": "Shared"}
    assert deployment["deadlines"] == {"pullSeconds": 3600, "startSeconds": 600, "rolloutSeconds": 7200}
    assert deployment["source"] == {"latest": {}}


def test_the_models_know_the_same_defaults_as_the_server(api: KindsApi) -> None:
    for resource, obj in GOOD:
        bare = resource.from_object({k: v for k, v in obj.items() if k != "status"})
        stored = api.create(bare.to_object())
        assert stored.code == 201, stored.message
        assert resource.from_object(stored.body).spec == bare.spec


def test_a_snapshot_keeps_what_an_older_schema_does_not_know_and_its_digest(api: KindsApi) -> None:
    snapshot = make_snapshot(
        futureField={"list": [1, 0.5, "x"]},
        tools=[{"name": "look", "parameters": {"type": "object", "x-more": 1.25}, "future": True}],
        memory={"strategy": "DropOldest", "future": 1},
        responseFormat={"type": "JSONSchema", "schema": {"type": "object", "required": []}},
    )
    snapshot["options"]["future"] = "0.1"
    snapshot["runner"]["future"] = 1
    snapshot["model"]["future"] = 1
    snapshot["prompts"][0]["future"] = {"deep": {"er": []}}
    stored = api.create(make_revision(snapshot=snapshot))
    assert stored.code == 201, stored.message
    assert stored.body["spec"]["snapshot"] == snapshot
    assert digest_of(stored.body["spec"]["snapshot"]) == stored.body["spec"]["digest"]
    assert verify_revision(stored.body).ok


def test_unknown_fields_outside_a_snapshot_are_pruned(api: KindsApi) -> None:
    stored = api.create(make_assistant(spec={"unknown": 1})).body
    assert "unknown" not in stored["spec"]
    revision = make_revision()
    revision["spec"]["provenance"]["unknown"] = 1
    assert "unknown" not in api.create(revision).body["spec"]["provenance"]


def test_the_schema_of_an_answer_is_kept_as_written(api: KindsApi) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["x", 1.5]}}, "required": []}
    stored = api.create(make_assistant(spec={"responseFormat": {"type": "JSONSchema", "schema": schema}})).body
    assert stored["spec"]["responseFormat"]["schema"] == schema


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"type": "Unheard"}, "spec.type"),
        ({"options": {"temperature": 0.7}}, "spec.options.temperature"),
        ({"options": {"temperature": "2.1"}}, "spec.options.temperature"),
        ({"options": {"topP": "1.5"}}, "spec.options.topP"),
        ({"options": {"stop": []}}, "spec.options.stop"),
        ({"runner": {"numCtx": 1}}, "spec.runner.numCtx"),
        ({"model": {"name": "two words"}}, "spec.model.name"),
        ({"model": {"name": "x", "digest": "sha256:abc"}}, "spec.model.digest"),
        ({"tags": ["a", "a"]}, "spec.tags"),
        ({"revisionHistoryLimit": 1}, "spec.revisionHistoryLimit"),
        (
            {"templateRef": {"name": "t"}, "variables": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]},
            "spec.variables[1]",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_value_is_refused_by_the_name_of_its_field(api: KindsApi, spec: dict[str, Any], field: str) -> None:
    answer = api.create(make_assistant(spec=spec), dry_run=True)
    assert answer.code == 422, answer.body
    assert field in answer.message


def test_scale_reads_and_writes_replicas(api: KindsApi, control_plane: Cluster, namespace: str) -> None:
    assert api.create(make_deployment()).code == 201
    seen = make_deployment(
        status={
            "observedGeneration": 1,
            "replicas": 3,
            "stableReplicas": 1,
            "selector": "retinue.dev/deployment=support-bot",
            "conditions": [condition("Ready")],
        }
    )
    assert api.replace(seen, subresource="status").code == 200
    scale = api.get(api.scale_path("support-bot")).body
    assert scale["spec"]["replicas"] == 1
    assert scale["status"] == {"replicas": 1, "selector": "retinue.dev/deployment=support-bot"}
    control_plane.kubectl("scale", "-n", namespace, "astdep/support-bot", "--replicas=3")
    assert api.read("AssistantDeployment", "support-bot").body["spec"]["replicas"] == 3
    refused = api.put(api.scale_path("support-bot"), {**scale, "spec": {"replicas": 101}, "metadata": _fresh(scale)})
    assert refused.code == 422, refused.body
    assert "spec.replicas" in refused.message


def _fresh(scale: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in scale["metadata"].items() if key in ("name", "namespace")}


def test_a_write_of_the_status_does_not_touch_the_spec_and_the_other_way_round(api: KindsApi) -> None:
    assert api.create(make_assistant()).code == 201
    both = make_assistant(spec={"tags": ["shop"]}, status={"observedGeneration": 1})
    assert "tags" not in api.replace(both, subresource="status").body["spec"]
    after = api.replace(make_assistant(spec={"tags": ["shop"]}, status={"observedGeneration": 7})).body
    assert after["status"]["observedGeneration"] == 1
    assert after["metadata"]["generation"] == 2


def test_a_condition_type_stands_once(api: KindsApi) -> None:
    assert api.create(make_assistant()).code == 201
    twice = make_assistant(status={"observedGeneration": 1, "conditions": [condition("Ready"), condition("Ready")]})
    answer = api.replace(twice, subresource="status")
    assert answer.code == 422
    assert "Duplicate value" in answer.message


WIDE_ONLY = {"AssistantRevision": "DIGEST", "AssistantDeployment": "MODELSERVER", "ModelServer": "DIGEST"}


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda r: r.__name__)
def test_kubectl_get_shows_the_columns_by_short_name_and_category(
    api: KindsApi, control_plane: Cluster, namespace: str, resource: Any
) -> None:
    assert api.create(dict(GOOD)[resource]).code == 201
    kind = resource.KIND
    narrow = control_plane.kubectl("get", "-n", namespace, kind.short_names[0]).splitlines()[0].split()
    wide = control_plane.kubectl("get", "-n", namespace, kind.short_names[0], "-o", "wide").splitlines()[0].split()
    assert narrow == ["NAME", *(c.name.upper() for c in kind.columns if not c.wide)]
    assert wide == ["NAME", *(c.name.upper() for c in kind.columns)]
    assert WIDE_ONLY.get(kind.kind, "none") not in narrow
    listed = json.loads(control_plane.kubectl("get", "-n", namespace, "retinue", "-o", "json"))
    assert [item["kind"] for item in listed["items"]] == [kind.kind]


def test_presets_are_accepted_and_a_second_apply_changes_nothing(
    control_plane: Cluster, namespace: str, api: KindsApi
) -> None:
    names = [preset["metadata"]["name"] for preset in all_presets()]
    versions = []
    for _ in range(2):
        control_plane.kubectl("apply", "-n", namespace, "-f", str(EXAMPLES))
        versions.append([api.read("AssistantTemplate", n).body["metadata"]["resourceVersion"] for n in names])
    assert versions[0] == versions[1]
