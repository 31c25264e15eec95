"""Content addresses: the golden vector, names, objects and the check of what is stored."""

import copy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from builders import make_revision, make_snapshot
from retinue.domain.canonical import canonical_json
from retinue.domain.revision import build_revision_object, digest_of, revision_name, same_content, verify_revision
from retinue.resources.reasons import DIGEST_INVALID, DIGEST_VALID, SCHEMA_TOO_NEW
from retinue.resources.v1alpha1.assistantrevision import AssistantRevision, Provenance

pytestmark = pytest.mark.unit

GOLDEN = """\
model: {name: "llama3.2:3b", digest: "sha256:a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72"}
options: {temperature: "0.2", topP: "0.9", seed: 7, maxTokens: 1024}
runner: {numCtx: 8192, shift: false}
prompts:
- {name: system, role: Primary, text: "Answer in a formal tone. Use only the given sources. Prices are in €."}
tools:
- name: order-lookup
  description: "State of one order"
  parameters:
    type: object
    properties: {order: {type: string, pattern: "^[0-9]{8}$"}}
    required: [order]
    additionalProperties: false
responseFormat: {type: Text}
memory: {strategy: DropOldest, maxTokens: 6000, keepMessages: 4}
capabilities: [Chat, Tools]
clientOverrides: [maxTokens, stop]
"""
GOLDEN_DIGEST = "sha256:182a2b2fc965df6345d5f04e6ae5da627cd384839799f98055e4739405b729e6"

JSON = st.recursive(
    st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8) | st.floats(allow_nan=False, width=16),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: "inf" not in repr(value))


def test_the_golden_snapshot_has_its_digest_and_name() -> None:
    snapshot = yaml.safe_load(GOLDEN)
    assert digest_of(snapshot) == GOLDEN_DIGEST
    assert revision_name("support-bot", GOLDEN_DIGEST) == "support-bot-182a2b2fc9"
    assert verify_revision(build_revision_object("support-bot", "bots-dev", snapshot)).ok


def _shuffled(value: Any, order: Any) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        order.shuffle(keys)
        return {key: _shuffled(value[key], order) for key in keys}
    return [_shuffled(item, order) for item in value] if isinstance(value, list) else value


@given(st.randoms(use_true_random=False), st.sampled_from([True, False, None]), JSON)
def test_the_order_of_fields_and_the_style_of_yaml_do_not_change_the_digest(order: Any, style: Any, more: Any) -> None:
    snapshot = {**yaml.safe_load(GOLDEN), "future": more}
    text = yaml.safe_dump(_shuffled(snapshot, order), default_flow_style=style, sort_keys=False)
    assert digest_of(yaml.safe_load(text)) == digest_of(snapshot)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in inner for place in [(*path, key), *_places(item, (*path, key))]]


PLACES = _places(yaml.safe_load(GOLDEN))


@given(st.sampled_from(PLACES), JSON)
def test_any_change_anywhere_changes_the_digest(place: tuple[Any, ...], value: Any) -> None:
    changed = yaml.safe_load(GOLDEN)
    parent = changed
    for key in place[:-1]:
        parent = parent[key]
    same = canonical_json(parent[place[-1]]) == canonical_json(value)
    parent[place[-1]] = value
    assert (digest_of(changed) == GOLDEN_DIGEST) == same


@pytest.mark.parametrize("place", PLACES, ids=lambda p: ".".join(str(k) for k in p))
def test_leaving_anything_out_changes_the_digest(place: tuple[Any, ...]) -> None:
    changed = yaml.safe_load(GOLDEN)
    parent = changed
    for key in place[:-1]:
        parent = parent[key]
    del parent[place[-1]]
    assert digest_of(changed) != GOLDEN_DIGEST


def test_the_schema_version_is_part_of_the_digest() -> None:
    snapshot = make_snapshot()
    assert digest_of(snapshot, 1) != digest_of(snapshot, 2)


def test_the_operator_labels_what_it_makes_and_the_cli_does_not() -> None:
    provenance = Provenance(generation=12, template="rag-support")
    made = build_revision_object("support-bot", "bots-dev", make_snapshot(), provenance)
    assert made["metadata"]["labels"] == {
        "retinue.dev/assistant": "support-bot",
        "retinue.dev/made-by": "operator",
    }
    assert made["spec"]["provenance"] == {"generation": 12, "template": "rag-support"}
    offline = build_revision_object("support-bot", None, make_snapshot(), by_operator=False)
    assert offline["metadata"]["labels"] == {"retinue.dev/assistant": "support-bot"}
    assert "namespace" not in offline["metadata"]
    assert "provenance" not in offline["spec"]
    assert offline["metadata"]["name"] == made["metadata"]["name"]
    assert AssistantRevision.from_object(made).spec.snapshot.model.name == "llama3.2:3b"


def test_provenance_and_labels_are_not_hashed() -> None:
    one = build_revision_object("a", "ns", make_snapshot(), Provenance(generation=1))
    other = build_revision_object("a", "other", make_snapshot(), Provenance(generation=2, git_commit="abcdef0"))
    assert one["spec"]["digest"] == other["spec"]["digest"]


def test_an_untouched_revision_is_valid() -> None:
    check = verify_revision(make_revision())
    assert (check.ok, check.reason, check.message) == (True, DIGEST_VALID, "")


def test_a_revision_with_fields_of_the_future_keeps_its_digest() -> None:
    snapshot = make_snapshot(future={"a": [1]})
    snapshot["options"]["future"] = True
    assert verify_revision(make_revision(snapshot=snapshot)).ok


def test_a_newer_schema_is_not_served_and_the_message_says_to_upgrade() -> None:
    revision = make_revision(snapshot={"whatever": 1})
    revision["spec"]["schemaVersion"] = 2
    check = verify_revision(revision)
    assert check.reason == SCHEMA_TOO_NEW
    assert "spec.schemaVersion: 2 is newer than 1" in check.message
    assert "upgrade retinue" in check.message


@pytest.mark.parametrize(
    ("bend", "field"),
    [
        (lambda o: o["spec"]["snapshot"]["prompts"][0].update(text="Lie."), "spec.digest"),
        (lambda o: o["spec"]["snapshot"].update(more=1), "spec.digest"),
        (lambda o: o["spec"].update(digest="sha256:" + "0" * 64), "spec.digest"),
        (lambda o: o["spec"].update(digest="md5:1"), "spec.digest"),
        (lambda o: o["spec"].pop("digest"), "spec.digest"),
        (lambda o: o["spec"].update(schemaVersion=0), "spec.schemaVersion"),
        (lambda o: o["spec"].update(snapshot="x"), "spec.schemaVersion"),
        (lambda o: o["spec"]["snapshot"].update(more=2**60), "spec.snapshot"),
        (lambda o: o["metadata"].update(name="support-bot-0000000000"), "metadata.name"),
        (lambda o: o["spec"].update(assistant="other"), "metadata.name"),
        (lambda o: o.pop("spec"), "spec.schemaVersion"),
    ],
)
def test_a_bent_revision_is_not_served(bend: Any, field: str) -> None:
    revision = copy.deepcopy(make_revision())
    bend(revision)
    check = verify_revision(revision)
    assert check.reason == DIGEST_INVALID
    assert check.message.startswith(f"{field}:")


def test_a_snapshot_with_a_right_digest_but_a_wrong_form_is_named_without_its_text() -> None:
    snapshot = make_snapshot(prompts=[{"name": "system", "role": "secret-word", "text": ["secret-text"]}])
    check = verify_revision(make_revision(snapshot=snapshot))
    assert check.reason == DIGEST_INVALID
    assert "prompts.0.role" in check.message
    assert "secret" not in check.message


def test_the_same_name_with_another_digest_is_a_conflict() -> None:
    revision = make_revision()
    digest = revision["spec"]["digest"]
    assert same_content(revision, digest)
    assert not same_content(revision, digest[:20] + "0" * 51)
    assert not same_content({}, digest)
