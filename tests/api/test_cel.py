"""Every rule of the kinds on the real API server: one accepted and one refused input."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from builders import make_assistant, make_revision, make_snapshot
from kinds_api import KindsApi
from kinds_cases import CASES, LIFECYCLE_RULE, Case
from retinue.resources.schema import RESOURCES, structural
from testbed.cluster import Cluster

pytestmark = pytest.mark.api

LIFECYCLES = ("Draft", "Active", "Inactive", "Archived")
ALLOWED = {
    ("Draft", "Active"),
    ("Active", "Inactive"),
    ("Inactive", "Active"),
    ("Active", "Archived"),
    ("Inactive", "Archived"),
}


@pytest.fixture
def api(control_plane: Cluster, namespace: str) -> Iterator[KindsApi]:
    client = KindsApi(control_plane, namespace)
    yield client
    client.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_rule_accepts_what_is_right_and_says_why_it_refuses(api: KindsApi, case: Case) -> None:
    if case.before is not None:
        stored = api.create(case.before)
        assert stored.code == 201, stored.message
        accepted, refused = (api.replace(obj, dry_run=True) for obj in (case.accepted, case.refused))
    else:
        accepted, refused = api.create(case.accepted, dry_run=True), api.create(case.refused, dry_run=True)
    assert accepted.code in (200, 201), accepted.message
    assert refused.code == 422, refused.body
    assert case.message in refused.message


def test_every_rule_of_every_kind_has_a_case() -> None:
    declared = {(r.KIND.kind, rule["rule"]) for r in RESOURCES for rule in _rules(structural(r))}
    assert {(case.kind, case.rule) for case in CASES} == declared


@pytest.mark.parametrize("before", LIFECYCLES)
def test_a_lifecycle_goes_only_where_it_may(api: KindsApi, before: str) -> None:
    assert api.create(make_assistant(spec={"lifecycle": before})).code == 201
    for after in LIFECYCLES:
        answer = api.replace(make_assistant(spec={"lifecycle": after}), dry_run=True)
        wanted = 200 if after == before or (before, after) in ALLOWED else 422
        assert answer.code == wanted, (before, after, answer.message)


def test_the_lifecycle_rule_is_the_one_that_was_tested() -> None:
    assert sum(LIFECYCLE_RULE.count(f"'{a}>{b}'") for a, b in ALLOWED) == len(ALLOWED)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["prompts"][0].update(text="Something else."),
        lambda s: s["tools"][0]["parameters"]["properties"].update(more={"type": "string"}),
        lambda s: s.update(unknown={"a": 2}),
        lambda s: s["options"].update(unknownOption=2),
        lambda s: s["prompts"][0].update(unknown="b"),
        lambda s: s.pop("unknown"),
        lambda s: s.update(another=1),
    ],
    ids=["text", "tool-schema", "unknown", "unknown-option", "unknown-in-a-list", "removed", "added"],
)
def test_no_part_of_a_snapshot_can_be_changed(api: KindsApi, change: Any) -> None:
    snapshot = make_snapshot(
        tools=[{"name": "look", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}],
        unknown={"a": 1},
    )
    snapshot["options"]["unknownOption"] = 1
    snapshot["prompts"][0]["unknown"] = "a"
    revision = make_revision(snapshot=snapshot)
    assert api.create(revision).code == 201
    bent = copy.deepcopy(revision)
    change(bent["spec"]["snapshot"])
    answer = api.replace(bent, dry_run=True)
    assert answer.code == 422, answer.body
    assert "a revision cannot be changed" in answer.message


def test_labels_of_a_revision_can_be_changed(api: KindsApi) -> None:
    revision = make_revision()
    assert api.create(revision).code == 201
    revision["metadata"]["labels"] = {"retinue.dev/assistant": "support-bot", "kept-by": "me"}
    assert api.replace(revision).code == 200


def _rules(node: dict[str, Any]) -> Iterator[dict[str, str]]:
    yield from node.get("x-kubernetes-validations", [])
    for child in node.get("properties", {}).values():
        yield from _rules(child)
    if "items" in node:
        yield from _rules(node["items"])
