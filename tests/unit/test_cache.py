"""The cache of last seen objects: order of news, lists that repair, indexes, subscribers, memory."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retinue.kube.cache import Cache, Change, Key

pytestmark = pytest.mark.unit

Object = dict[str, Any]
KIND = "AssistantDeployment"


def make(name: str, version: int, *, namespace: str = "team", uid: str = "", **fields: Any) -> Object:
    metadata = {"name": name, "namespace": namespace, "resourceVersion": str(version), "uid": uid or f"uid-{name}"}
    return {"apiVersion": "retinue.dev/v1alpha1", "kind": KIND, "metadata": metadata, **fields}


def server_of(obj: Object) -> list[str]:
    found = obj.get("status", {}).get("modelServer")
    return [found] if found else []


def versions(cache: Cache) -> dict[str, int]:
    return {o["metadata"]["name"]: int(o["metadata"]["resourceVersion"]) for o in cache.list(KIND)}


@pytest.mark.parametrize(
    ("seen", "want"),
    [
        ([("put", 5)], 5),
        ([("put", 5), ("put", 7)], 7),
        ([("put", 7), ("put", 5)], 7),
        ([("put", 5), ("put", 5)], 5),
        ([("put", 5), ("remove", 6)], None),
        ([("put", 5), ("remove", 6), ("put", 5)], None),
        ([("remove", 6), ("put", 5)], None),
        ([("put", 5), ("remove", 6), ("put", 8)], 8),
        ([("put", 8), ("remove", 6)], 8),
    ],
    ids=[
        "first",
        "newer-replaces",
        "older-is-ignored",
        "same-is-ignored",
        "deleted",
        "late-news-of-the-dead",
        "deletion-before-late-news",
        "made-again",
        "late-deletion-of-an-earlier-one",
    ],
)
def test_news_may_come_late_twice_or_out_of_order(seen: list[tuple[str, int]], want: int | None) -> None:
    cache = Cache()
    for what, version in seen:
        if what == "put":
            cache.put(make("a", version))
        else:
            cache.remove(KIND, "team", "a", resource_version=str(version))
    held = cache.get(KIND, "team", "a")
    assert (held and int(held["metadata"]["resourceVersion"])) == want


def test_the_deletion_of_another_incarnation_is_ignored() -> None:
    cache = Cache()
    cache.put(make("a", 9, uid="new"))
    assert cache.remove(KIND, "team", "a", uid="old") is None
    assert cache.remove(KIND, "team", "a", uid="new") is not None


def test_a_list_replaces_what_it_covers_and_says_what_changed() -> None:
    cache = Cache()
    for obj in (make("same", 1), make("old", 2), make("gone", 3), make("elsewhere", 4, namespace="other")):
        cache.put(obj)
    changed = cache.replace_all(KIND, "team", [make("same", 1), make("old", 6), make("new", 5)], "7")
    assert changed == {Key(KIND, "team", name) for name in ("old", "gone", "new")}
    assert versions(cache) == {"same": 1, "old": 6, "new": 5, "elsewhere": 4}


def test_a_list_never_undoes_what_happened_after_it_was_made() -> None:
    cache = Cache()
    cache.put(make("made-later", 12))
    cache.put(make("changed-later", 13))
    cache.put(make("deleted-later", 5))
    cache.remove(KIND, "team", "deleted-later", resource_version="14")
    changed = cache.replace_all(KIND, None, [make("changed-later", 4), make("deleted-later", 5)], "10")
    assert changed == set()
    assert versions(cache) == {"made-later": 12, "changed-later": 13}


def test_a_newer_list_forgets_old_deletions() -> None:
    cache = Cache()
    cache.put(make("a", 5))
    cache.remove(KIND, "team", "a", resource_version="6")
    cache.replace_all(KIND, None, [], "10")
    assert cache._deleted == {}


def test_subscribers_hear_of_every_accepted_change_with_both_versions() -> None:
    cache = Cache()
    heard: list[Change] = []
    others: list[Change] = []
    cache.subscribe(heard.append, [KIND])
    cache.subscribe(others.append, ["Pod"])
    cache.put(make("a", 1))
    cache.put(make("a", 2))
    cache.put(make("a", 1))
    cache.replace_all(KIND, None, [], "3")
    told = [tuple(o and o["metadata"]["resourceVersion"] for o in (c.old, c.new)) for c in heard]
    assert told == [(None, "1"), ("1", "2"), ("2", None)]
    assert others == []


def test_an_index_follows_every_change() -> None:
    cache = Cache()
    cache.put(make("early", 1, status={"modelServer": "llama"}))
    cache.add_index(KIND, "server", server_of)
    cache.put(make("late", 2, status={"modelServer": "llama"}))
    cache.put(make("none", 3))

    def names(value: str) -> list[str]:
        return [o["metadata"]["name"] for o in cache.by_index(KIND, "server", value)]

    assert names("llama") == ["early", "late"]
    cache.put(make("early", 4, status={"modelServer": "gemma"}))
    assert (names("llama"), names("gemma")) == (["late"], ["early"])
    cache.remove(KIND, "team", "late")
    assert names("llama") == []
    with pytest.raises(KeyError, match="no index 'nope' on AssistantDeployment"):
        cache.by_index(KIND, "nope", "x")


def test_a_kind_is_synced_when_every_expected_list_was_taken_in() -> None:
    cache = Cache()
    cache.expect(KIND, ["team", "other"])
    cache.expect("Pod")
    assert not cache.synced(KIND)
    cache.replace_all(KIND, "team", [], "1")
    assert not cache.synced(KIND)
    cache.replace_all(KIND, "other", [], "1")
    assert cache.synced(KIND)
    assert not cache.synced()
    cache.replace_all("Pod", None, [], "1")
    assert cache.synced()
    assert not cache.synced("Node")


def test_a_read_by_name_counts_as_the_list_of_that_name() -> None:
    cache = Cache()
    cache.expect("Namespace", ["team", "gone"])
    namespace = {"kind": "Namespace", "metadata": {"name": "team", "resourceVersion": "3", "uid": "u"}}
    assert cache.replace_one("Namespace", "team", namespace) == {Key("Namespace", "", "team")}
    assert cache.replace_one("Namespace", "gone", None) == set()
    assert cache.synced("Namespace")
    assert cache.replace_one("Namespace", "team", None) == {Key("Namespace", "", "team")}


def test_managed_fields_are_dropped_but_for_what_retinue_applied() -> None:
    ours = {"manager": "retinue", "operation": "Apply", "fieldsV1": {"f:spec": {}}}
    foreign = [
        {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}},
        {"manager": "retinue", "operation": "Apply", "subresource": "status", "fieldsV1": {"f:status": {}}},
    ]
    cache = Cache()
    seen = make("a", 1)
    seen["metadata"]["managedFields"] = [*foreign, ours]
    cache.put(seen)
    held = cache.get(KIND, "team", "a")
    assert held is not None
    assert held["metadata"]["managedFields"] == [ours]
    assert len(seen["metadata"]["managedFields"]) == 3, "the seen object itself stays as it was"
    other = make("b", 1)
    other["metadata"]["managedFields"] = foreign
    cache.put(other)
    held = cache.get(KIND, "team", "b")
    assert held is not None
    assert "managedFields" not in held["metadata"]


def test_lists_are_sorted() -> None:
    cache = Cache()
    names = [f"n{i}" for i in range(9)]
    for name in random.Random(7).sample(names, len(names)):
        cache.put(make(name, 1))
    assert [o["metadata"]["name"] for o in cache.list(KIND)] == names
    assert [key.name for key in cache.keys(KIND)] == names
    assert (cache.count(KIND), cache.count("Pod")) == (9, 0)


HISTORY = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["write", "delete"])), min_size=1, max_size=12
)


@settings(max_examples=200, deadline=None)
@given(HISTORY, st.randoms(use_true_random=False))
def test_any_order_of_news_ends_in_the_truth_after_one_list(
    history: list[tuple[str, str]], chance: random.Random
) -> None:
    truth: dict[str, Object] = {}
    news: list[tuple[str, Object]] = []
    for version, (name, what) in enumerate(history, start=1):
        obj = make(name, version)
        if what == "write":
            truth[name] = obj
            news.append(("PUT", obj))
        elif truth.pop(name, None):
            news.append(("DELETED", obj))
    chance.shuffle(news)
    cache = Cache()
    cut = chance.randint(0, len(news))
    for position, (what, obj) in enumerate([*news[:cut], ("LIST", {}), *news[cut:]]):
        if what == "LIST":
            cache.replace_all(KIND, None, list(truth.values()), str(len(history)))
        elif what == "PUT":
            # After the list only news come that are newer than it, as from a watch that starts there.
            if position < cut:
                cache.put(obj)
        elif position < cut:
            cache.remove(KIND, "team", obj["metadata"]["name"], resource_version=obj["metadata"]["resourceVersion"])
    assert versions(cache) == {name: int(o["metadata"]["resourceVersion"]) for name, o in truth.items()}
