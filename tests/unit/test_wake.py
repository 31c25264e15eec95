"""Who is looked at again when something changes."""

from typing import Any

import pytest

from builders import (
    MODELS_NAMESPACE,
    NAMESPACE,
    make_assistant,
    make_deployment,
    make_model_server,
    make_namespace,
    make_revision,
    make_template,
)
from retinue.kube.cache import Cache, Change, Key, key_of
from retinue.reconcile.wake import wakes
from retinue.reconcile.world import add_indexes

pytestmark = pytest.mark.unit

Object = dict[str, Any]
SERVER = Key("ModelServer", MODELS_NAMESPACE, "llama-a")
ASSISTANT = Key("Assistant", NAMESPACE, "support-bot")
TEMPLATE = Key("AssistantTemplate", NAMESPACE, "rag-support")
FOLLOWS = Key("AssistantDeployment", NAMESPACE, "follows")
PINNED = Key("AssistantDeployment", NAMESPACE, "pinned")
ELSEWHERE = Key("AssistantDeployment", "bots-prod", "elsewhere")


@pytest.fixture
def cache() -> Cache:
    """Two deployments of one assistant with a template, and one deployment in another namespace."""
    made = Cache()
    add_indexes(made)
    made.put(make_assistant(spec={"templateRef": {"name": "rag-support"}}))
    made.put(make_deployment("follows", status={"modelServer": "llama-a"}))
    made.put(
        make_deployment(
            "pinned",
            spec={"source": {"revision": "support-bot-0123456789"}},
            status={"modelServer": "old", "candidate": {"modelServer": "llama-a"}},
        )
    )
    made.put(make_deployment("elsewhere", namespace="bots-prod", status={"modelServer": "llama-b"}))
    return made


def seen(cache: Cache, obj: Object, old: Object | None = None, *, gone: bool = False) -> set[Key]:
    return wakes(cache, MODELS_NAMESPACE, Change(key_of(obj), old or (obj if gone else None), None if gone else obj))


def test_an_assistant_wakes_itself_its_latest_deployments_and_their_servers(cache: Cache) -> None:
    assert seen(cache, make_assistant()) == {ASSISTANT, FOLLOWS, SERVER}


def test_a_template_wakes_its_assistants(cache: Cache) -> None:
    assert seen(cache, make_template()) == {TEMPLATE, ASSISTANT}


def test_a_revision_wakes_its_assistant_and_all_deployments_of_it(cache: Cache) -> None:
    revision = make_revision()
    assert seen(cache, revision) == {key_of(revision), ASSISTANT, FOLLOWS, PINNED}


def test_a_deployment_wakes_the_servers_that_it_uses_and_that_it_left(cache: Cache) -> None:
    old = make_deployment("follows", status={"modelServer": "old"})
    new = make_deployment("follows", status={"modelServer": "new", "candidate": {"modelServer": "newer"}})
    names = {key.name for key in seen(cache, new, old) if key.kind == "ModelServer"}
    assert names == {"old", "new", "newer"}


def test_a_deployment_that_is_gone_wakes_its_servers_and_not_itself(cache: Cache) -> None:
    assert seen(cache, make_deployment("follows", status={"modelServer": "llama-a"}), gone=True) == {SERVER}


def test_a_model_server_wakes_its_users_in_every_namespace(cache: Cache) -> None:
    assert seen(cache, make_model_server(name="llama-a")) == {SERVER, FOLLOWS, PINNED}
    assert ELSEWHERE in seen(cache, make_model_server(name="llama-b"))


def test_a_namespace_wakes_its_deployments(cache: Cache) -> None:
    assert seen(cache, make_namespace()) == {FOLLOWS, PINNED}


@pytest.mark.parametrize("kind", ["StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy", "Pod"])
@pytest.mark.parametrize("gone", [False, True])
def test_a_child_wakes_its_model_server(cache: Cache, kind: str, gone: bool) -> None:
    name = "llama-a-0" if kind == "Pod" else "llama-a"
    labels = {"retinue.dev/model-server": "llama-a"}
    child = {"kind": kind, "metadata": {"name": name, "namespace": MODELS_NAMESPACE, "labels": labels}}
    assert seen(cache, child, gone=gone) == {SERVER}


def test_a_child_without_its_label_is_found_by_its_name(cache: Cache) -> None:
    child = {"kind": "Service", "metadata": {"name": "llama-a", "namespace": MODELS_NAMESPACE}}
    assert seen(cache, child) == {SERVER}


def test_what_nobody_depends_on_wakes_nobody(cache: Cache) -> None:
    assert seen(cache, {"kind": "ConfigMap", "metadata": {"name": "x", "namespace": NAMESPACE}}) == set()
