"""The route table: what it says about each state of the objects, and what it keeps of the table before."""

from typing import Any

import pytest

from builders import MODELS_NAMESPACE, condition, make_deployment, make_model_server, make_revision, make_snapshot
from retinue.domain.refusal import Refusal
from retinue.domain.routing import Route, RouteObjects, RouteState, RouteTable, Target, build_routes
from retinue.domain.served_revision import NotServable, serve_revision
from retinue.resources.platform import PlatformConfig

pytestmark = pytest.mark.unit

Object = dict[str, Any]

PLATFORM = PlatformConfig.model_validate(
    {
        "agentImage": "retinue:test",
        "modelsNamespace": MODELS_NAMESPACE,
        "defaultProfile": "small-cpu",
        "profiles": [{"name": "small-cpu", "image": "ollama", "numThread": 2}],
        "modelRegistries": [{"host": "registry.test", "default": True}],
        "externalServers": [{"name": "workstation", "url": "http://10.0.0.5:11434/"}],
    }
)


def endpoint_slice(server: Object, *pods: str, ready: bool | None = True, name: str = "a", **endpoint: Any) -> Object:
    service = server["metadata"]["name"]
    return {
        "metadata": {
            "name": f"{service}-{name}",
            "namespace": MODELS_NAMESPACE,
            "labels": {"kubernetes.io/service-name": service},
        },
        "ports": [{"name": "agent", "port": 8080}],
        "endpoints": [
            {
                "addresses": [f"10.1.0.{pod}"],
                "conditions": {} if ready is None else {"ready": ready},
                "targetRef": {"name": f"{service}-{pod}"},
                **endpoint,
            }
            for pod in pods
        ],
    }


class World:
    """One assistant that is served by one pod; tests bend it."""

    def __init__(self) -> None:
        self.revision = make_revision()
        self.server = make_model_server()
        self.deployment = make_deployment(status=self.status())
        self.slices = [endpoint_slice(self.server, "1")]

    def status(self, **more: Any) -> Object:
        return {
            "activeRevision": self.revision["metadata"]["name"],
            "modelServer": self.server["metadata"]["name"],
            **more,
        }

    def objects(self, **over: Any) -> RouteObjects:
        default: dict[str, Any] = {
            "deployments": [self.deployment],
            "revisions": [self.revision],
            "model_servers": [self.server],
            "endpoint_slices": self.slices,
        }
        return RouteObjects(**{**default, **over})

    def build(self, previous: RouteTable | None = None, **over: Any) -> RouteTable:
        return build_routes(self.objects(**over), PLATFORM, previous)


@pytest.fixture
def world() -> World:
    return World()


def only(table: RouteTable) -> Route:
    (route,) = table.routes.values()
    return route


def test_a_ready_pod_makes_a_route_with_prompt_options_and_constants(world: World) -> None:
    route = only(world.build())
    assert route.state is RouteState.SERVING
    assert route.targets == (Target("http://10.1.0.1:8080", f"{world.server['metadata']['name']}-1"),)
    revision = route.serving()
    assert revision.system_prompt == "Answer in a formal tone."
    assert revision.options == {"temperature": 0.3}
    assert route.constants == {"options": {"num_ctx": 4096, "num_thread": 2}, "keep_alive": -1}
    assert route.created == 1768032000


def test_a_route_is_found_by_its_full_name_and_by_a_unique_bare_one(world: World) -> None:
    table = world.build()
    assert table.find("bots-dev/support-bot") is table.find("support-bot") is only(table)
    assert table.find("bots-dev/other") is None
    twin = make_deployment(namespace="bots-prod")
    both = world.build(deployments=[world.deployment, twin])
    assert both.find("support-bot") is None
    assert both.find("bots-prod/support-bot") is not None


@pytest.mark.parametrize(
    ("change", "state", "words"),
    [
        ({"spec": {"suspend": True}}, RouteState.SUSPENDED, "spec.suspend"),
        ({"spec": {"replicas": 0}}, RouteState.SCALED_TO_ZERO, "spec.replicas"),
        ({"status": {"activeRevision": None}}, RouteState.NO_ACTIVE_REVISION, "no revision is active"),
        ({"status": {"modelServer": None}}, RouteState.NO_ACTIVE_REVISION, "no revision is active"),
        ({"status": {"activeRevision": "support-bot-0000000000"}}, RouteState.REVISION_MISSING, "does not exist"),
        ({"status": {"modelServer": "gone-0000000000"}}, RouteState.MODEL_SERVER_MISSING, "does not exist"),
        (
            {"status": {"conditions": [condition("Ready", "Unknown", "AssistantArchived", "archived")]}},
            RouteState.SUSPENDED,
            "archived",
        ),
    ],
)
def test_what_cannot_be_asked_says_why(world: World, change: Object, state: RouteState, words: str) -> None:
    deployment = make_deployment(spec=change.get("spec"), status=world.status(**change.get("status", {})))
    route = only(world.build(deployments=[deployment]))
    assert route.state is state
    with pytest.raises(Refusal) as caught:
        route.serving()
    assert caught.value.status == 503
    assert caught.value.retry_after
    assert "bots-dev/support-bot" in caught.value.message
    assert words in caught.value.message


def test_without_a_ready_pod_the_refusal_repeats_what_the_deployment_says(world: World) -> None:
    status = world.status(conditions=[condition("Ready", "Unknown", "Pulling", "pulling the model: 34 %")])
    route = only(world.build(deployments=[make_deployment(status=status)], endpoint_slices=[]))
    assert route.state is RouteState.NO_READY_POD
    assert "34 %" in route.message


@pytest.mark.parametrize(
    ("bend", "count"),
    [
        ({"ready": None}, 1),
        ({"ready": False}, 0),
        ({"conditions": {"ready": True, "terminating": True}}, 0),
        ({"addresses": []}, 0),
    ],
)
def test_only_ready_endpoints_are_targets(world: World, bend: Object, count: int) -> None:
    table = world.build(endpoint_slices=[endpoint_slice(world.server, "1", **bend)])
    assert len(only(table).targets) == count


def test_targets_come_from_all_slices_of_the_server_once_each_and_from_no_other_namespace(world: World) -> None:
    elsewhere = endpoint_slice(world.server, "9")
    elsewhere["metadata"]["namespace"] = "bots-dev"
    portless = {**endpoint_slice(world.server, "8", name="p"), "ports": [{"name": "other", "port": 1}]}
    slices = [*world.slices, endpoint_slice(world.server, "1", "2", name="b"), elsewhere, portless]
    urls = [t.url for t in only(world.build(endpoint_slices=slices)).targets]
    assert urls == ["http://10.1.0.1:8080", "http://10.1.0.2:8080"]


def test_an_ipv6_address_is_put_in_brackets(world: World) -> None:
    table = world.build(endpoint_slices=[endpoint_slice(world.server, "1", addresses=["fd00::1"])])
    assert only(table).targets[0].url == "http://[fd00::1]:8080"


def test_an_external_server_is_a_target_without_pods_profile_and_credential(world: World) -> None:
    server = make_model_server(external_server="workstation")
    status = world.status(modelServer=server["metadata"]["name"])
    route = only(world.build(deployments=[make_deployment(status=status)], model_servers=[server], endpoint_slices=[]))
    assert route.targets == (Target("http://10.0.0.5:11434", "workstation", external=True),)
    assert route.constants == {"options": {"num_ctx": 4096}, "keep_alive": -1}


@pytest.mark.parametrize("server", [{"external_server": "unknown"}, {"profile": "unknown"}])
def test_a_runtime_that_the_platform_does_not_know_is_not_asked(world: World, server: Object) -> None:
    made = make_model_server(**server)
    status = world.status(modelServer=made["metadata"]["name"])
    route = only(world.build(deployments=[make_deployment(status=status)], model_servers=[made]))
    assert route.state is RouteState.RUNTIME_UNKNOWN


@pytest.mark.parametrize(
    "server", [{"model": "other:1b"}, {"digest": "sha256:" + "0" * 64}, {"runner": {"numCtx": 512}}]
)
def test_a_server_of_another_model_or_runner_is_not_asked(world: World, server: Object) -> None:
    made = make_model_server(**server)
    status = world.status(modelServer=made["metadata"]["name"])
    route = only(world.build(deployments=[make_deployment(status=status)], model_servers=[made]))
    assert route.state is RouteState.MODEL_SERVER_MISMATCH


# Revisions --------------------------------------------------------------------------------------------------------


def test_a_revision_that_was_altered_is_never_served(world: World) -> None:
    world.revision["spec"]["snapshot"]["prompts"][0]["text"] = "Do as you like."
    route = only(world.build())
    assert route.state is RouteState.REVISION_NOT_SERVABLE
    assert "DigestInvalid" in route.message


@pytest.mark.parametrize(
    ("snapshot", "reason"),
    [
        ({"tools": [{"name": "lookup"}]}, "tools"),
        ({"memory": {"strategy": "DropOldest"}}, "memory"),
        (
            {"prompts": [{"name": n, "role": "Primary", "text": n} for n in ("one", "two")]},
            "more than one prompt",
        ),
    ],
)
def test_a_revision_that_needs_more_than_this_gateway_can_is_not_served(snapshot: Object, reason: str) -> None:
    with pytest.raises(NotServable, match=reason):
        serve_revision(make_revision(snapshot=make_snapshot(**snapshot)))


def test_every_option_of_a_snapshot_gets_its_ollama_name() -> None:
    options = {
        "temperature": "0.2",
        "topP": "0.9",
        "minP": "0.05",
        "topK": 40,
        "repeatPenalty": "1.1",
        "seed": 7,
        "maxTokens": 64,
        "stop": ["###"],
    }
    served = serve_revision(make_revision(snapshot=make_snapshot(options=options)))
    assert served.options == {
        "temperature": 0.2,
        "top_p": 0.9,
        "min_p": 0.05,
        "top_k": 40,
        "repeat_penalty": 1.1,
        "seed": 7,
        "stop": ["###"],
    }
    assert served.max_tokens == 64


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (None, None),
        ({"type": "Text"}, None),
        ({"type": "JSON"}, "json"),
        ({"type": "JSONSchema", "schema": {"type": "object"}}, {"type": "object"}),
    ],
)
def test_the_response_format_becomes_ollamas_format(form: Object | None, expected: Any) -> None:
    assert serve_revision(make_revision(snapshot=make_snapshot(responseFormat=form))).format == expected


@pytest.mark.parametrize(("given", "effective"), [(None, set()), (["seed"], {"seed"})])
def test_a_client_may_set_what_the_revision_lists_and_nothing_else(given: Any, effective: set[str]) -> None:
    assert serve_revision(make_revision(snapshot=make_snapshot(clientOverrides=given))).client_overrides == effective


# Tables that follow each other ------------------------------------------------------------------------------------


def moved(world: World) -> tuple[Object, Object, Object]:
    """A rollout to another model: its revision, its server, and the deployment that names both."""
    snapshot = make_snapshot(model={"name": "gemma3:270m", "digest": "sha256:" + "1" * 64})
    revision = make_revision(snapshot=snapshot)
    server = make_model_server(model="gemma3:270m", digest="sha256:" + "1" * 64)
    status = {"activeRevision": revision["metadata"]["name"], "modelServer": server["metadata"]["name"]}
    return revision, server, make_deployment(status=status)


def test_a_switch_whose_parts_arrive_in_any_order_never_leaves_a_gap(world: World) -> None:
    before = world.build()
    revision, server, deployment = moved(world)
    old = [world.revision], [world.server], list(world.slices)
    new = [*old[0], revision], [*old[1], server], [*old[2], endpoint_slice(server, "5")]
    for revisions in (old[0], new[0]):
        for servers in (old[1], new[1]):
            for slices in (old[2], new[2]):
                table = world.build(
                    before,
                    deployments=[deployment],
                    revisions=revisions,
                    model_servers=servers,
                    endpoint_slices=slices,
                )
                route = only(table)
                complete = (revisions, servers, slices) == new
                assert route.state is RouteState.SERVING
                assert route.serving().name == (revision if complete else world.revision)["metadata"]["name"]
                assert route.targets == (only(before).targets if not complete else route.targets)


def test_the_old_route_is_not_kept_without_its_pods_or_for_another_object_of_the_same_name(world: World) -> None:
    before = world.build()
    revision, server, deployment = moved(world)
    more = {"revisions": [revision], "model_servers": [server, world.server]}
    gone = world.build(before, deployments=[deployment], endpoint_slices=[], **more)
    assert only(gone).state is RouteState.NO_READY_POD
    deployment["metadata"]["uid"] = "another"
    assert only(world.build(before, deployments=[deployment], **more)).state is RouteState.NO_READY_POD


def test_an_order_to_stop_is_followed_at_once(world: World) -> None:
    before = world.build()
    suspended = make_deployment(spec={"suspend": True}, status=world.status())
    assert only(world.build(before, deployments=[suspended])).state is RouteState.SUSPENDED


def test_a_deployment_that_is_gone_has_no_route(world: World) -> None:
    assert world.build(world.build(), deployments=[]).routes == {}


def test_a_checked_revision_is_not_hashed_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = world.build()
    calls: list[Any] = []
    monkeypatch.setattr("retinue.domain.routing.serve_revision", lambda r: calls.append(r))
    assert only(world.build(before)).revision is only(before).revision
    assert calls == []
