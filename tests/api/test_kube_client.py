"""The client against the real API server: verbs, preconditions, errors, watches, credentials."""

import asyncio
from pathlib import Path

import pytest

from builders import make_assistant, make_model_server
from real_client import client_of, config_map, kubeconfig_with_token, manifest
from retinue.kube import errors
from retinue.kube.aio import NoCluster, connect
from retinue.kube.crds import wait_for_crds
from retinue.kube.listwatch import list_all
from retinue.kube.resources import ASSISTANT, CONFIG_MAP, MODEL_SERVER, NODE
from testbed.cluster import Cluster

pytestmark = pytest.mark.api


async def test_an_apply_creates_and_then_changes_and_returns_the_object(control_plane: Cluster, namespace: str) -> None:
    async with client_of(control_plane) as client:
        made = await client.apply(CONFIG_MAP, config_map(namespace, a="1", b="2"))
        changed = await client.apply(CONFIG_MAP, config_map(namespace, a="1", c="3"))
    assert made["data"] == {"a": "1", "b": "2"}
    assert changed["data"] == {"a": "1", "c": "3"}, "what is no longer applied is taken away"
    assert changed["metadata"]["uid"] == made["metadata"]["uid"]
    owners = [(f["manager"], f["operation"]) for f in changed["metadata"]["managedFields"]]
    assert owners == [("retinue", "Apply")]


async def test_an_apply_takes_a_field_back_from_another_manager(control_plane: Cluster, namespace: str) -> None:
    async with client_of(control_plane) as client:
        await client.apply(CONFIG_MAP, config_map(namespace, a="1"))
        control_plane.kubectl("-n", namespace, "patch", "configmap", "one", "--type=merge", '-p={"data":{"a":"9"}}')
        back = await client.apply(CONFIG_MAP, config_map(namespace, a="1"))
    assert back["data"] == {"a": "1"}


async def test_a_status_is_written_only_on_the_version_it_was_decided_on(
    control_plane: Cluster, namespace: str
) -> None:
    async with client_of(control_plane) as client:
        made = await client.apply(ASSISTANT, manifest(make_assistant(namespace=namespace)))
        assert made["status"] == {"observedGeneration": -1}
        body = {
            "apiVersion": made["apiVersion"],
            "kind": "Assistant",
            "metadata": {key: made["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")},
            "status": {"observedGeneration": 1},
        }
        stored = await client.apply_status(ASSISTANT, body)
        assert stored["status"] == {"observedGeneration": 1}
        assert stored["spec"] == made["spec"]
        with pytest.raises(errors.Conflict, match="has been modified"):
            await client.apply_status(ASSISTANT, {**body, "status": {"observedGeneration": 2}})


async def test_an_apply_with_a_uid_never_makes_a_deleted_object_again(control_plane: Cluster, namespace: str) -> None:
    async with client_of(control_plane) as client:
        made = await client.apply(CONFIG_MAP, config_map(namespace, a="1"))
        await client.delete(CONFIG_MAP, "one", namespace)
        body = config_map(namespace, a="1")
        body["metadata"]["uid"] = made["metadata"]["uid"]
        with pytest.raises(errors.Conflict, match="uid mismatch"):
            await client.apply(CONFIG_MAP, body)


@pytest.mark.parametrize("stale", ["uid", "resource_version"])
async def test_a_delete_hits_only_the_incarnation_that_was_meant(
    control_plane: Cluster, namespace: str, stale: str
) -> None:
    async with client_of(control_plane) as client:
        made = (await client.apply(CONFIG_MAP, config_map(namespace)))["metadata"]
        right = {"uid": made["uid"], "resource_version": made["resourceVersion"]}
        wrong = {**right, stale: "1"}
        with pytest.raises(errors.Conflict):
            await client.delete(CONFIG_MAP, "one", namespace, **wrong)
        await client.delete(CONFIG_MAP, "one", namespace, **right)
        with pytest.raises(errors.NotFound):
            await client.delete(CONFIG_MAP, "one", namespace, **right)


async def test_errors_say_what_to_do_next(control_plane: Cluster, namespace: str) -> None:
    async with client_of(control_plane) as client:
        with pytest.raises(errors.NotFound):
            await client.get(CONFIG_MAP, "nobody", namespace)
        await client.create(CONFIG_MAP, config_map(namespace))
        with pytest.raises(errors.AlreadyExists):
            await client.create(CONFIG_MAP, config_map(namespace))
        with pytest.raises(errors.NotFound, match="namespaces"):
            await client.create(CONFIG_MAP, config_map("there-is-no-such-namespace"))


async def test_a_refused_value_is_in_no_message(control_plane: Cluster, namespace: str) -> None:
    async with client_of(control_plane) as client:
        wrong = make_assistant(namespace=namespace, spec={"type": "secret-canary", "model": {"name": "secret canary"}})
        with pytest.raises(errors.Invalid) as caught:
            await client.apply(ASSISTANT, manifest(wrong))
    assert "secret" not in str(caught.value)
    assert "spec.type: Unsupported value" in caught.value.message
    assert "spec.model.name" in caught.value.message


async def test_a_long_list_comes_in_pages_with_kind_and_one_version(control_plane: Cluster, namespace: str) -> None:
    async with client_of(control_plane) as client:
        for number in range(7):
            await client.create(CONFIG_MAP, config_map(namespace, f"many-{number}"))
        first = await client.list_page(CONFIG_MAP, namespace, limit=3)
        second = await client.list_page(CONFIG_MAP, namespace, limit=3, continue_token=first.continue_token)
        assert (len(first.items), len(second.items)) == (3, 3)
        assert first.resource_version == second.resource_version
        assert {(o["apiVersion"], o["kind"]) for o in first.items} == {("v1", "ConfigMap")}
        objects, _ = await list_all(client, CONFIG_MAP, namespace)
        assert sum(o["metadata"]["name"].startswith("many-") for o in objects) == 7


async def test_a_watch_brings_what_happens_after_the_list(control_plane: Cluster, namespace: str) -> None:
    async with client_of(control_plane) as client:
        _, version = await list_all(client, CONFIG_MAP, namespace)
        made = await client.apply(CONFIG_MAP, config_map(namespace, text="é" * 150_000))
        await client.apply(CONFIG_MAP, config_map(namespace))
        await client.delete(CONFIG_MAP, "one", namespace)
        seen: list[str] = []
        async with asyncio.timeout(30):
            async for kind, obj in client.watch(CONFIG_MAP, namespace, resource_version=version):
                if not seen:
                    assert obj["data"] == made["data"], "a large object arrives whole"
                seen.append(kind)
                if len(seen) == 3:
                    break
    assert seen == ["ADDED", "MODIFIED", "DELETED"]


async def test_a_watch_from_a_version_that_is_too_old_says_gone(control_plane: Cluster, namespace: str) -> None:
    async with client_of(control_plane) as client:
        with pytest.raises(errors.Gone):
            async with asyncio.timeout(30):
                async for _ in client.watch(ASSISTANT, namespace, resource_version="1"):
                    pass


async def test_a_server_that_is_not_there_is_unavailable(control_plane: Cluster, tmp_path: Path) -> None:
    text = control_plane.kubeconfig.read_text().replace(control_plane.url, "https://127.0.0.1:9")
    bent = tmp_path / "kubeconfig"
    bent.write_text(text)
    client = await connect(str(bent))
    try:
        with pytest.raises(errors.Unavailable):
            await client.request("GET", "/version")
    finally:
        await client.close()


async def test_a_missing_or_wrong_kubeconfig_is_told_with_its_path(control_plane: Cluster, tmp_path: Path) -> None:
    with pytest.raises(NoCluster, match="no-such-file"):
        await connect(str(tmp_path / "no-such-file"))
    with pytest.raises(NoCluster, match="context 'nope'"):
        await connect(str(control_plane.kubeconfig), "nope")
    (tmp_path / "broken").write_text("{")
    with pytest.raises(NoCluster, match="broken"):
        await connect(str(tmp_path / "broken"))


async def test_a_rotated_token_is_read_again_when_the_old_one_is_refused(
    control_plane: Cluster, namespace: str, tmp_path: Path
) -> None:
    def token() -> str:
        return control_plane.kubectl("-n", namespace, "create", "token", "default").strip()

    token_file = tmp_path / "token"
    token_file.write_text(token())
    client = await connect(kubeconfig_with_token(control_plane, token_file))
    try:
        me = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        answer = await client.request("POST", path, body=me)
        assert answer["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:default"
        client._configuration.api_key["BearerToken"] = "Bearer expired"
        answer = await client.request("POST", path, body=me)
        assert answer["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:default"
        with pytest.raises(errors.Forbidden):
            await client.list_page(NODE)
        token_file.write_text("wrong")
        client._configuration.api_key["BearerToken"] = "Bearer expired"
        with pytest.raises(errors.Forbidden, match="Unauthorized"):
            await client.list_page(NODE)
    finally:
        await client.close()


async def test_every_call_is_observed(control_plane: Cluster, namespace: str) -> None:
    calls: list[tuple[str, str, int]] = []
    async with client_of(control_plane, observer=lambda *call: calls.append(call[:3])) as client:
        await client.apply(MODEL_SERVER, manifest(make_model_server(namespace=namespace)))
        await client.list_page(CONFIG_MAP, namespace)
        with pytest.raises(errors.NotFound):
            await client.get(CONFIG_MAP, "nobody", namespace)
    assert calls == [("APPLY", "modelservers", 201), ("LIST", "configmaps", 200), ("GET", "configmaps", 404)]


async def test_the_crds_of_this_release_fit(control_plane: Cluster) -> None:
    async with client_of(control_plane) as client:
        await wait_for_crds(client, seconds=0)
