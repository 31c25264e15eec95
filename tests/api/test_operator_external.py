"""The whole operator, a real API server and a real Ollama outside of the cluster: from an Assistant to Ready."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from builders import make_assistant, make_deployment, make_template
from operator_rig import OperatorRig, conditions, eventually, message, platform_of
from testbed.cluster import Cluster
from testbed.model_registry import ModelRegistry
from testbed.ollama_server import OllamaServer

pytestmark = pytest.mark.api

Object = dict[str, Any]
SMOLLM, GEMMA = "smollm2:135m", "gemma3:270m"


@pytest.fixture(scope="module")
def digests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of the test models, as a registry tells them."""
    with ModelRegistry() as registry:
        return {name: registry.digest(name) for name in (SMOLLM, GEMMA)}


@pytest.fixture
async def rig(
    control_plane: Cluster, namespace: str, ollama: OllamaServer, tmp_path: Path
) -> AsyncIterator[OperatorRig]:
    async with OperatorRig(control_plane, namespace, tmp_path, platform_of(namespace, ollama)) as running:
        yield running


def assistant(digests: dict[str, str], model: str = SMOLLM, text: str = "Be brief.", **spec: Any) -> Object:
    return make_assistant(
        spec={"model": {"name": model, "digest": digests[model]}, "systemPrompt": {"inline": text}, **spec}
    )


def deployment(**spec: Any) -> Object:
    return make_deployment(spec={"runtime": {"externalServer": "local"}, **spec})


def pinned(revision: str) -> Object:
    return {"source": {"latest": None, "revision": revision}}


async def serving(rig: OperatorRig, revision: str | None = None) -> Object:
    """Waits until the deployment is Ready, with this revision if one is given."""
    obj = await rig.until_condition("AssistantDeployment", "support-bot", "Ready", "Serving")
    if revision is not None and obj["status"]["activeRevision"] != revision:
        return await rig.until(
            "AssistantDeployment",
            "support-bot",
            lambda o: o["status"].get("activeRevision") == revision and conditions(o)["Ready"]["status"] == "True",
        )
    return obj


async def latest(rig: OperatorRig, not_this: str | None = None) -> str:
    """Waits for the Assistant's newest revision to be numbered."""
    obj = await rig.until(
        "Assistant",
        "support-bot",
        lambda o: o["status"].get("latestOrdinal") is not None and o["status"]["latestRevision"] != not_this,
    )
    return str(obj["status"]["latestRevision"])


async def test_an_assistant_becomes_a_revision_a_server_and_ready(rig: OperatorRig, digests: dict[str, str]) -> None:
    await rig.apply(deployment())
    await rig.apply(assistant(digests))
    obj = await serving(rig)
    revision = await latest(rig)
    author = await rig.get("Assistant", "support-bot")
    assert author["status"]["latestOrdinal"] == 1
    assert conditions(author)["Ready"]["status"] == "True"
    assert message(author).startswith("r1")
    assert obj["status"]["activeRevision"] == revision
    assert obj["status"]["environment"] == "development"
    server = await rig.get("ModelServer", obj["status"]["modelServer"])
    assert server["spec"]["externalServer"] == "local"
    assert conditions(server)["ModelMatched"]["status"] == "True"
    assert conditions(server)["Warm"]["status"] == "True"
    assert server["status"]["users"] == [{"namespace": rig.namespace, "name": "support-bot"}]
    assert await rig.all("StatefulSet") == []


async def test_a_new_prompt_is_a_new_revision_on_the_same_server(rig: OperatorRig, digests: dict[str, str]) -> None:
    await rig.apply(assistant(digests))
    await rig.apply(deployment())
    first = await serving(rig)
    old = first["status"]["activeRevision"]
    await rig.apply(assistant(digests, text="Be formal."))
    new = await latest(rig, old)
    second = await serving(rig, new)
    assert second["status"]["modelServer"] == first["status"]["modelServer"]
    assert [h["revision"] for h in second["status"]["history"]] == [new, old]
    assert len(await rig.all("ModelServer")) == 1
    assert [r["status"]["ordinal"] for r in await rig.all("AssistantRevision") if r["metadata"]["name"] == new] == [2]


async def test_the_same_content_again_is_no_new_revision(rig: OperatorRig, digests: dict[str, str]) -> None:
    await rig.apply(assistant(digests))
    name = await latest(rig)
    await rig.apply(assistant(digests, tags=["shop"]))
    await rig.until_condition("Assistant", "support-bot", "Ready")
    assert [r["metadata"]["name"] for r in await rig.all("AssistantRevision")] == [name]


async def test_a_new_model_moves_users_to_its_server_and_the_old_one_goes(
    rig: OperatorRig, digests: dict[str, str]
) -> None:
    await rig.apply(assistant(digests))
    await rig.apply(deployment())
    first = await serving(rig)
    old = first["status"]["modelServer"]
    await rig.apply(assistant(digests, GEMMA))
    second = await serving(rig, await latest(rig, first["status"]["activeRevision"]))
    assert second["status"]["modelServer"] != old
    await rig.until_gone("ModelServer", old)
    assert await rig.find("ModelServer", second["status"]["modelServer"])


async def test_a_pinned_deployment_stays_where_it_is(rig: OperatorRig, digests: dict[str, str]) -> None:
    await rig.apply(assistant(digests))
    old = await latest(rig)
    await rig.apply(deployment(source={"revision": old}))
    await serving(rig, old)
    await rig.apply(assistant(digests, text="Be formal."))
    new = await latest(rig, old)
    obj = await serving(rig, old)
    assert obj["status"]["mode"] == "GitOps"
    await rig.apply(deployment(source={"revision": new}))
    await serving(rig, new)


async def test_suspended_serves_nothing_and_comes_back(rig: OperatorRig, digests: dict[str, str]) -> None:
    await rig.apply(assistant(digests))
    await rig.apply(deployment())
    active = (await serving(rig))["status"]["activeRevision"]
    await rig.apply(deployment(suspend=True))
    obj = await rig.until(
        "AssistantDeployment", "support-bot", lambda o: conditions(o)["Ready"]["reason"] == "Suspended"
    )
    assert conditions(obj)["Ready"]["status"] == "Unknown"
    assert conditions(obj)["Available"]["status"] == "False"
    assert obj["status"]["activeRevision"] == active
    await rig.until("ModelServer", obj["status"]["modelServer"], lambda o: o["status"].get("desiredReplicas") == 0)
    await rig.apply(deployment())
    await serving(rig, active)


async def test_an_archived_assistant_stops_its_latest_deployment(rig: OperatorRig, digests: dict[str, str]) -> None:
    await rig.apply(assistant(digests))
    await rig.apply(deployment())
    await serving(rig)
    await rig.apply(assistant(digests, lifecycle="Archived"))
    await rig.until(
        "AssistantDeployment", "support-bot", lambda o: conditions(o)["Ready"]["reason"] == "AssistantArchived"
    )


async def test_deleting_the_deployment_leaves_nothing_but_revisions(rig: OperatorRig, digests: dict[str, str]) -> None:
    await rig.apply(assistant(digests))
    await rig.apply(deployment())
    server = (await serving(rig))["status"]["modelServer"]
    await rig.delete("AssistantDeployment", "support-bot")
    obj = await rig.until("ModelServer", server, lambda o: "unusedSince" in o["status"])
    assert "users" not in obj["status"]
    await rig.until_gone("ModelServer", server)
    await rig.delete("Assistant", "support-bot")
    await asyncio.sleep(1)
    assert len(await rig.all("AssistantRevision")) == 1


async def test_two_deployments_share_a_server_and_a_dedicated_one_does_not_exist_outside(
    rig: OperatorRig, digests: dict[str, str]
) -> None:
    await rig.apply(assistant(digests))
    for name, replicas in (("one", 1), ("two", 3)):
        await rig.apply(make_deployment(name, spec={"runtime": {"externalServer": "local"}, "replicas": replicas}))
        await rig.until_condition("AssistantDeployment", name, "Ready")
    (server,) = await rig.all("ModelServer")
    assert server["status"]["desiredReplicas"] == 3
    assert server["status"]["userCount"] == 2


async def test_a_model_that_the_server_does_not_have_is_told(rig: OperatorRig) -> None:
    unknown = make_assistant(spec={"model": {"name": "nobody:1b", "digest": f"sha256:{'1' * 64}"}})
    await rig.apply(unknown)
    await rig.apply(deployment())
    obj = await rig.until_condition("AssistantDeployment", "support-bot", "Stalled", "ModelUnknown")
    assert "ollama pull nobody:1b" in message(obj)
    assert conditions(obj)["Ready"]["status"] == "False"
    assert "activeRevision" not in obj["status"]


async def test_another_digest_on_the_server_is_never_served(rig: OperatorRig) -> None:
    await rig.apply(make_assistant(spec={"model": {"name": SMOLLM, "digest": f"sha256:{'1' * 64}"}}))
    await rig.apply(deployment())
    obj = await rig.until_condition("AssistantDeployment", "support-bot", "Stalled", "DigestDiffers")
    assert "activeRevision" not in obj["status"]


async def test_a_registry_that_is_away_makes_no_revision(rig: OperatorRig) -> None:
    await rig.apply(make_assistant(spec={"model": {"name": SMOLLM}}))
    obj = await rig.until_condition("Assistant", "support-bot", "Stalled", "ModelNotResolved")
    assert conditions(obj)["ModelResolved"]["status"] == "False"
    assert "spec.model.digest" in message(obj)
    assert await rig.all("AssistantRevision") == []


async def test_a_template_and_a_config_map_end_in_the_revision(rig: OperatorRig, digests: dict[str, str]) -> None:
    spec = {
        "model": {"name": SMOLLM, "digest": digests[SMOLLM]},
        "systemPrompt": None,
        "templateRef": {"name": "rag-support"},
        "variables": [{"name": "tone", "value": "formal"}],
    }
    await rig.apply(make_assistant(spec=spec))
    await rig.until_condition("Assistant", "support-bot", "Reconciling", "TemplateNotFound")
    await rig.apply(make_template())
    first = await latest(rig)
    text = (await rig.get("AssistantRevision", first))["spec"]["snapshot"]["prompts"][0]["text"]
    assert text.startswith("Answer in a formal tone.")
    await rig.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "texts"}, "data": {"p": "Be kind."}})
    await rig.apply(make_assistant(spec={**spec, "systemPrompt": {"configMapKeyRef": {"name": "texts", "key": "p"}}}))
    second = await latest(rig, first)
    assert (await rig.get("AssistantRevision", second))["spec"]["snapshot"]["prompts"][0]["text"] == "Be kind."


async def test_a_changed_template_makes_new_revisions_of_its_assistants(
    rig: OperatorRig, digests: dict[str, str]
) -> None:
    await rig.apply(make_template(spec={"variables": [], "template": {"systemPrompt": {"inline": "One."}}}))
    spec = {"templateRef": {"name": "rag-support"}, "systemPrompt": None}
    await rig.apply(assistant(digests, **spec))
    first = await latest(rig)
    await rig.apply(make_template(spec={"variables": [], "template": {"systemPrompt": {"inline": "Two."}}}))
    await latest(rig, first)
    await rig.until_condition("AssistantTemplate", "rag-support", "Ready")


async def test_a_namespace_without_environment_says_what_to_do(rig: OperatorRig, digests: dict[str, str]) -> None:
    await rig.stop()
    rig.cluster.kubectl("label", "namespace", rig.namespace, "retinue.dev/environment-")
    await rig.start()
    await rig.apply(assistant(digests))
    await rig.apply(deployment())
    obj = await rig.until_condition("AssistantDeployment", "support-bot", "Stalled", "EnvironmentUnknown")
    assert f"kubectl label namespace {rig.namespace}" in message(obj)


async def test_an_external_server_that_is_not_listed_is_refused(rig: OperatorRig, digests: dict[str, str]) -> None:
    await rig.apply(assistant(digests))
    await rig.apply(make_deployment(spec={"runtime": {"externalServer": "attic"}}))
    obj = await rig.until_condition("AssistantDeployment", "support-bot", "Stalled", "ExternalServerUnknown")
    assert "listed: local" in message(obj)


async def test_a_tampered_status_is_put_right(rig: OperatorRig, digests: dict[str, str]) -> None:
    await rig.apply(assistant(digests))
    await rig.apply(deployment())
    obj = await serving(rig)
    rig.cluster.kubectl(
        "patch", "astdep", "support-bot", f"--namespace={rig.namespace}", "--subresource=status", "--type=merge",
        '--patch={"status":{"readyReplicas":77,"environment":"moon"}}',
    )  # fmt: skip
    after = await rig.until("AssistantDeployment", "support-bot", lambda o: o["status"]["environment"] != "moon")
    assert after["status"]["readyReplicas"] == obj["status"]["readyReplicas"]


async def test_nothing_is_written_when_nothing_changes_not_even_after_a_restart(
    rig: OperatorRig, digests: dict[str, str]
) -> None:
    await rig.apply(make_template())
    await rig.apply(assistant(digests))
    await rig.apply(deployment())
    await rig.apply(make_deployment("local-pods"))
    await serving(rig)
    await latest(rig)
    await rig.until_condition("AssistantDeployment", "local-pods", "Reconciling")

    before: dict[str, str] = {}

    async def settled() -> bool:
        nonlocal before
        seen = await rig.versions()
        quiet, before = seen == before, seen
        await asyncio.sleep(2)
        return quiet

    await eventually(settled, rig.tail)
    assert await rig.stop() == 0
    assert await rig.versions() == before
    await rig.start()
    await _until_listed(rig, times=2)
    await asyncio.sleep(5)
    assert await rig.versions() == before
    assert await rig.writes() == {}
    await rig.kill()
    await rig.start()
    await _until_listed(rig, times=3)
    await asyncio.sleep(5)
    assert await rig.versions() == before
    assert await rig.writes() == {}


async def _until_listed(rig: OperatorRig, times: int) -> None:
    async def look() -> bool:
        return rig.log.read_text().count("everything is listed, working") >= times

    await eventually(look, rig.tail)
