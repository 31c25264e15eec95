"""The children of a ModelServer: complete, valid, restricted and deterministic."""

import copy
import json
from typing import Any

import kubernetes_validate
import pytest

from builders import MODEL, MODEL_DIGEST, make_model_server
from retinue.agent.settings import AgentConfig
from retinue.domain.desired.networkpolicy import build_network_policy
from retinue.domain.desired.poddisruptionbudget import build_pod_disruption_budget
from retinue.domain.desired.service import build_service
from retinue.domain.desired.statefulset import build_stateful_set
from retinue.resources.platform import PlatformConfig
from retinue.resources.v1alpha1.modelserver import ModelServer

pytestmark = pytest.mark.unit

Object = dict[str, Any]


def platform(**over: Any) -> PlatformConfig:
    base: Object = {
        "agentImage": "retinue:0.1.0",
        "defaultProfile": "small-cpu",
        "profiles": [{"name": "small-cpu", "image": "ollama/ollama:0.24.0"}],
        "modelRegistries": [{"host": "registry.ollama.ai", "default": True}],
    }
    return PlatformConfig.model_validate({**base, **over})


def with_profile(**over: Any) -> PlatformConfig:
    return platform(profiles=[{"name": "small-cpu", "image": "ollama/ollama:0.24.0", **over}])


def server(**over: Any) -> ModelServer:
    return ModelServer.from_object(make_model_server(**over))


def stateful_set(
    config: PlatformConfig | None = None, replicas: int = 1, live: Object | None = None, **over: Any
) -> Object:
    config = config or platform()
    built = build_stateful_set(server(**over), config.profiles[0], config, replicas, live)
    assert built is not None
    return built


def children(config: PlatformConfig | None = None) -> list[Object]:
    config = config or platform()
    built = (
        build_service(server()),
        build_pod_disruption_budget(server()),
        build_network_policy(server(), config),
        stateful_set(config),
    )
    return [child for child in built if child is not None]


def pod_of(stateful: Object) -> Object:
    pod: Object = stateful["spec"]["template"]["spec"]
    return pod


def container(stateful: Object, name: str) -> Object:
    pod = pod_of(stateful)
    return next(c for c in (*pod["initContainers"], *pod["containers"]) if c["name"] == name)


def environment(stateful: Object, name: str) -> dict[str, str]:
    return {e["name"]: e["value"] for e in container(stateful, name)["env"]}


RICH = {
    "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"memory": "3Gi", "nvidia.com/gpu": "1"}},
    "agentResources": {"limits": {"memory": "256Mi"}},
    "nodeSelector": {"gpu": "yes"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "runtimeClassName": "nvidia",
    "priorityClassName": "models",
    "imagePullSecrets": ["pull"],
    "storage": {"size": "20Gi", "storageClassName": "fast"},
    "slots": 4,
    "numBatch": 512,
    "useMmap": False,
}


@pytest.mark.parametrize("config", [platform(), with_profile(**RICH), with_profile(storage={"ephemeral": True})])
def test_every_child_fits_the_schema_of_kubernetes(config: PlatformConfig) -> None:
    for child in children(config):
        kubernetes_validate.validate(child, "1.34.0", strict=True)


def test_every_child_carries_the_name_the_labels_and_the_owner_of_its_server() -> None:
    for child in children():
        meta = child["metadata"]
        assert meta["name"] == server().name
        assert meta["namespace"] == "retinue-models"
        assert meta["labels"] == {
            "app.kubernetes.io/managed-by": "retinue",
            "app.kubernetes.io/name": "ollama",
            "retinue.dev/model-server": server().name,
        }
        assert [o["uid"] for o in meta["ownerReferences"]] == [server().metadata.uid]


def test_an_external_server_has_no_children() -> None:
    external = server(external_server="workstation")
    config = platform()
    assert build_service(external) is None
    assert build_pod_disruption_budget(external) is None
    assert build_network_policy(external, config) is None
    assert build_stateful_set(external, config.profiles[0], config, 1) is None


def test_the_same_input_gives_the_same_bytes() -> None:
    assert json.dumps(children(with_profile(**RICH))) == json.dumps(children(with_profile(**RICH)))


def test_building_changes_none_of_its_inputs() -> None:
    config, made = with_profile(**RICH), server()
    before = config.model_dump_json(), made.model_dump_json()
    live = stateful_set(config)
    kept = copy.deepcopy(live)
    build_stateful_set(made, config.profiles[0], config, 3, live)
    assert (config.model_dump_json(), made.model_dump_json()) == before
    assert live == kept


def test_pods_run_under_the_restricted_pod_security_standard() -> None:
    pod = pod_of(stateful_set())
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for one in (*pod["initContainers"], *pod["containers"]):
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_only_the_agent_opens_a_port() -> None:
    made = stateful_set()
    assert "ports" not in container(made, "ollama")
    assert container(made, "agent")["ports"] == [{"name": "agent", "containerPort": 8080, "protocol": "TCP"}]
    assert environment(made, "ollama")["OLLAMA_HOST"] == "127.0.0.1:11434"


def test_ollama_outlives_the_agent_so_that_running_answers_end() -> None:
    made = stateful_set()
    assert container(made, "ollama")["restartPolicy"] == "Always"
    config = AgentConfig.model_validate_json(environment(made, "agent")["RETINUE_AGENT_CONFIG"])
    assert config.drain_grace_seconds + config.drain_seconds < pod_of(made)["terminationGracePeriodSeconds"]


def test_a_long_pull_is_not_killed_by_a_probe() -> None:
    agent = container(stateful_set(), "agent")
    assert agent["startupProbe"]["httpGet"]["path"] == "/livez"
    assert agent["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert agent["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_the_agent_is_told_the_model_its_digest_and_the_constants_of_profile_and_runner() -> None:
    made = stateful_set(with_profile(**RICH), runner={"numCtx": 8192, "shift": False})
    config = AgentConfig.model_validate_json(environment(made, "agent")["RETINUE_AGENT_CONFIG"])
    assert (config.model, config.digest, config.pull_name) == (MODEL, MODEL_DIGEST, MODEL)
    assert config.constants == {
        "options": {"num_ctx": 8192, "num_batch": 512, "use_mmap": False},
        "keep_alive": -1,
        "shift": False,
    }
    assert (config.slots, config.queue) == (4, 8)
    assert environment(made, "ollama")["OLLAMA_NUM_PARALLEL"] == "4"
    assert environment(made, "ollama")["OLLAMA_CONTEXT_LENGTH"] == "8192"


def test_a_name_without_host_is_pulled_from_the_default_registry() -> None:
    config = platform(modelRegistries=[{"host": "models.example:5000", "default": True, "insecure": True}])
    made = stateful_set(config)
    agent = AgentConfig.model_validate_json(environment(made, "agent")["RETINUE_AGENT_CONFIG"])
    assert agent.pull_name == "models.example:5000/library/llama3.2:3b"
    assert agent.insecure is True
    assert agent.model == MODEL


def test_what_a_profile_says_ends_in_the_pod() -> None:
    made = stateful_set(with_profile(**RICH))
    pod = pod_of(made)
    assert pod["nodeSelector"] == {"gpu": "yes"}
    assert pod["tolerations"] == RICH["tolerations"]
    assert (pod["runtimeClassName"], pod["priorityClassName"]) == ("nvidia", "models")
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert container(made, "ollama")["resources"] == RICH["resources"]
    assert container(made, "agent")["resources"] == RICH["agentResources"]


def test_claims_are_kept_when_scaled_and_go_with_the_set() -> None:
    spec = stateful_set(with_profile(**RICH))["spec"]
    claim = spec["volumeClaimTemplates"][0]["spec"]
    assert claim["resources"] == {"requests": {"storage": "20Gi"}}
    assert claim["storageClassName"] == "fast"
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Delete", "whenScaled": "Retain"}
    assert spec["podManagementPolicy"] == "Parallel"


def test_ephemeral_storage_is_an_empty_dir_with_a_limit() -> None:
    made = stateful_set(with_profile(storage={"ephemeral": True, "size": "2Gi"}))
    assert "volumeClaimTemplates" not in made["spec"]
    volumes = {v["name"]: v for v in pod_of(made)["volumes"]}
    assert volumes["models"] == {"name": "models", "emptyDir": {"sizeLimit": "2Gi"}}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"size": "8Gi"}, {"size": "20Gi"}),
        ({"size": "8Gi"}, {"ephemeral": True}),
        ({"ephemeral": True}, {"size": "8Gi"}),
        ({"size": "8Gi"}, {"size": "8Gi", "storageClassName": "fast"}),
    ],
)
def test_the_storage_of_an_existing_set_is_never_sent_changed(old: Object, new: Object) -> None:
    live = stateful_set(with_profile(storage=old))
    again = stateful_set(with_profile(storage=new), live=live)
    assert again["spec"].get("volumeClaimTemplates") == live["spec"].get("volumeClaimTemplates")
    assert ("models" in {v["name"] for v in pod_of(again)["volumes"]}) == ("ephemeral" in old)


def test_pods_are_reached_by_retinue_only_and_reach_registries_only() -> None:
    config = platform(
        releaseNamespace="system",
        modelRegistries=[
            {"host": "registry.ollama.ai", "default": True},
            {"host": "models.example:5000", "insecure": True},
            {"host": "plain.example", "insecure": True},
        ],
    )
    policy = build_network_policy(server(), config)
    assert policy is not None
    (rule,) = policy["spec"]["ingress"]
    assert rule["from"][0]["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "system"}}
    assert rule["ports"] == [{"port": 8080, "protocol": "TCP"}]
    assert [p["port"] for p in policy["spec"]["egress"][1]["ports"]] == [80, 443, 5000]
