"""What is probed and when, and what a deployment's health follows from."""

from dataclasses import replace
from typing import Any

import pytest

from retinue.domain.health import (
    DeploymentFacts,
    PodState,
    derive,
    facts_of,
    phase_offset,
    picture,
    slot,
    targets,
    worst_latency,
)
from retinue.ollama.agent_client import AgentPull, AgentStatus
from retinue.resources.platform import ExternalServer, ModelRegistry, PlatformConfig, Profile

pytestmark = pytest.mark.unit

PLATFORM = PlatformConfig(
    agent_image="retinue:0.1.0",
    default_profile="small",
    profiles=[Profile(name="small", image="ollama/ollama:0.24.0", num_batch=64)],
    model_registries=[ModelRegistry(host="registry.ollama.ai", default=True)],
    external_servers=[ExternalServer(name="lab", url="http://10.0.0.5:11434")],
)


def server(name: str = "smollm2-0123456789", **spec: Any) -> dict[str, Any]:
    base = {
        "model": {"name": "smollm2:135m", "digest": "sha256:9"},
        "runner": {"numCtx": 2048},
        "pool": "default/development",
        **({} if "externalServer" in spec else {"profile": "small"}),
    }
    return {"metadata": {"namespace": "retinue-models", "name": name, "uid": f"uid-{name}"}, "spec": base | spec}


def pod(name: str = "smollm2-0123456789-0", *, of: str = "smollm2-0123456789", **status: Any) -> dict[str, Any]:
    labels = {"retinue.dev/model-server": of}
    metadata = {"namespace": "retinue-models", "name": name, "uid": f"uid-{name}", "labels": labels}
    return {"metadata": metadata, "status": {"phase": "Running", "podIP": "10.1.0.7"} | status}


def report(**changes: Any) -> AgentStatus:
    base = AgentStatus.read({"phase": "Ready", "digest": "sha256:9", "loaded": True, "slots": 2})
    return replace(base, **changes)


def test_a_running_pod_is_asked_at_its_own_address_with_the_constants_of_its_server() -> None:
    [target] = targets([server()], [pod()], PLATFORM)
    assert (target.base_url, target.uid, target.external) == ("http://10.1.0.7:8080", "uid-smollm2-0123456789-0", False)
    assert (target.model, target.model_digest) == ("smollm2:135m", "sha256:9")
    assert target.constants == {"options": {"num_ctx": 2048, "num_batch": 64}, "keep_alive": -1}


def test_an_address_of_ip_version_6_is_written_as_urls_want_it() -> None:
    [target] = targets([server()], [pod(podIP="fd00::7")], PLATFORM)
    assert target.base_url == "http://[fd00::7]:8080"


@pytest.mark.parametrize(
    "left_out",
    [
        pod(podIP=None),
        pod(podIP=""),
        pod(phase="Failed"),
        pod(phase="Succeeded"),
        pod(of="another"),
        {**pod(), "metadata": {**pod()["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}},
        {**pod(), "metadata": {**pod()["metadata"], "labels": None}},
        {**pod(), "metadata": {**pod()["metadata"], "namespace": "elsewhere"}},
        {"metadata": pod()["metadata"]},
    ],
    ids=["no address", "empty address", "failed", "ended", "other server", "leaving", "no label", "elsewhere", "new"],
)
def test_a_pod_that_cannot_or_need_not_be_asked_is_left_out(left_out: dict[str, Any]) -> None:
    assert targets([server()], [left_out], PLATFORM) == []


def test_pods_of_a_server_that_is_being_deleted_are_not_asked() -> None:
    going = server()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert targets([going], [pod()], PLATFORM) == []


def test_an_external_server_is_asked_by_its_listed_url_and_an_unlisted_one_not_at_all() -> None:
    [target] = targets([server(externalServer="lab"), server("b", externalServer="gone")], [], PLATFORM)
    assert (target.base_url, target.uid, target.external) == ("http://10.0.0.5:11434", "uid-smollm2-0123456789", True)
    assert target.constants == {"options": {"num_ctx": 2048}, "keep_alive": -1}


def test_looks_at_a_fleet_are_spread_over_the_period_and_stay_where_they_are() -> None:
    offsets = [phase_offset(f"pod-{n}", 15) for n in range(1500)]
    assert offsets == [phase_offset(f"pod-{n}", 15) for n in range(1500)]
    per_second = [sum(int(offset) == second for offset in offsets) for second in range(15)]
    assert min(per_second) > 60
    assert max(per_second) < 140


@pytest.mark.parametrize(("now", "number"), [(0.0, -1), (4.9, -1), (5.0, 0), (19.9, 0), (20.0, 1), (1e9, 66666666)])
def test_a_period_begins_at_the_pods_own_offset(now: float, number: int) -> None:
    assert slot(now, 15, 5) == number


@pytest.mark.parametrize(
    ("changes", "news"),
    [
        ({}, False),
        ({"message": "said otherwise"}, False),
        ({"in_flight": 1, "queued": 2}, False),
        ({"vram_bytes": 7}, False),
        ({"phase": "Loading"}, True),
        ({"reason": "LoadFailed"}, True),
        ({"digest": "sha256:8"}, True),
        ({"loaded": False}, True),
        ({"processor": "GPU"}, True),
        ({"pull": AgentPull(0, 0, "")}, True),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)
def test_only_what_a_status_shows_is_news(changes: dict[str, Any], news: bool) -> None:
    assert (picture(report(**changes)) != picture(report())) is news


def test_a_pull_is_news_every_five_percent() -> None:
    seen = {picture(report(phase="Pulling", pull=AgentPull(n, 1000, ""))) for n in range(1001)}
    assert len(seen) == 21


FACTS = DeploymentFacts(
    namespace="bots",
    name="helper",
    uid="uid-helper",
    environment="development",
    assistant="helper",
    revision="helper-0123456789",
    revision_digest="sha256:1",
    model="smollm2:135m",
    model_digest="sha256:9",
    model_server="smollm2-0123456789",
    wanted_replicas=2,
    ready_replicas=1,
    available=True,
    reason="",
)
FINE, SLOW = PodState(True, "", 2.0), PodState(True, "", 9.0)
LOADING, SILENT = PodState(False, "Loading", 1.0), PodState(False, "AgentUnreachable", 5000.0)


@pytest.mark.parametrize(
    ("changes", "pods", "ready", "reason", "fine"),
    [
        ({}, [FINE, SLOW], True, "", 2),
        ({}, [FINE, SILENT], True, "", 1),
        ({}, [LOADING, SILENT], False, "Loading", 0),
        ({}, [], False, "NoPods", 0),
        ({"available": False, "reason": "Suspended"}, [FINE], False, "Suspended", 1),
        ({"available": False}, [], False, "NotAvailable", 0),
    ],
    ids=["all fine", "one fine", "none fine", "no pods", "not available", "no reason known"],
)
def test_a_deployment_is_well_if_its_route_is_open_and_a_pod_answers(
    changes: dict[str, Any], pods: list[PodState], ready: bool, reason: str, fine: int
) -> None:
    state = derive(replace(FACTS, **changes), pods)
    assert (state.ready, state.reason, state.pods_ok) == (ready, reason, fine)


def test_latency_is_that_of_the_slowest_pod_that_is_fine() -> None:
    assert worst_latency([FINE, SLOW, SILENT]) == 9.0
    assert worst_latency([SILENT]) is None


def test_facts_are_read_from_deployment_and_revision() -> None:
    deployment = {
        "metadata": {"namespace": "bots", "name": "helper", "uid": "uid-helper"},
        "spec": {"assistant": "helper", "replicas": 2},
        "status": {
            "observedGeneration": 3,
            "environment": "development",
            "activeRevision": "helper-0123456789",
            "modelServer": "smollm2-0123456789",
            "readyReplicas": 1,
            "conditions": [{"type": "Available", "status": "True", "reason": ""}],
        },
    }
    snapshot = {"model": {"name": "smollm2:135m", "digest": "sha256:9"}}
    assert facts_of(deployment, {"spec": {"digest": "sha256:1", "snapshot": snapshot}}) == FACTS


def test_a_deployment_that_nobody_has_looked_at_yet_has_no_health() -> None:
    fresh = {"metadata": {"namespace": "b", "name": "h", "uid": "u"}, "spec": {}, "status": {"observedGeneration": -1}}
    assert facts_of(fresh, None) is None
    assert facts_of({**fresh, "status": None}, None) is None


@pytest.mark.parametrize(
    ("types", "reason"),
    [
        (["Available", "Ready", "Reconciling", "Stalled"], "StalledReason"),
        (["Available", "Ready", "Reconciling"], "ReconcilingReason"),
        (["Available", "Ready"], "AvailableReason"),
        (["Ready"], "ReadyReason"),
        ([], ""),
    ],
)
def test_the_reason_is_that_of_the_weightiest_condition(types: list[str], reason: str) -> None:
    conditions = [{"type": kind, "status": "False", "reason": f"{kind}Reason"} for kind in types]
    deployment = {
        "metadata": {"namespace": "b", "name": "h", "uid": "u"},
        "spec": {"assistant": "h"},
        "status": {"observedGeneration": 1, "conditions": conditions},
    }
    facts = facts_of(deployment, None)
    assert facts is not None
    assert (facts.available, facts.reason, facts.wanted_replicas) == (False, reason, 1)
