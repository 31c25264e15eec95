"""ModelServer: demand, children, causes of missing pods, progress of the pull, removal."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from builders import condition, make_model_server
from retinue.domain.conditions import Problem
from retinue.domain.model_pods import AgentView, PodView, pod_view, refused_pods
from retinue.domain.model_status import Demand
from retinue.domain.modelserver_decision import ObservedServer, decide_model_server
from retinue.domain.plan import Plan
from retinue.resources.platform import PlatformConfig
from retinue.resources.v1alpha1.modelserver import ModelServer

pytestmark = pytest.mark.unit

Object = dict[str, Any]
NOW = datetime(2026, 1, 10, 8, 0, tzinfo=UTC)
PLATFORM = PlatformConfig.model_validate(
    {
        "agentImage": "retinue:0.1.0",
        "defaultProfile": "small-cpu",
        "profiles": [{"name": "small-cpu", "image": "ollama/ollama:0.24.0"}],
        "modelRegistries": [{"host": "registry.ollama.ai", "default": True}],
    }
)


def server(**over: Any) -> ModelServer:
    return ModelServer.from_object(make_model_server(**over))


def user(replicas: int = 1, name: str = "support-bot", pull_seconds: int = 3600) -> Demand:
    return Demand("bots-dev", name, replicas, pull_seconds)


def pod(name: str = "x-0", *, ready: bool = False, agent: AgentView | None = None, **over: Any) -> PodView:
    fields: Object = {
        "uid": f"uid-{name}",
        "resource_version": "5",
        "leaving": False,
        "address": "10.0.0.1",
        "node": "node-1",
        "scheduling": None,
        "waiting": None,
    }
    return PodView(name=name, ready=ready, agent=agent, **{**fields, **over})


def pulling(done: int, total: int = 100, started: datetime = NOW) -> AgentView:
    return AgentView("Pulling", completed_bytes=done, total_bytes=total, pull_started=started)


def observed(
    *pods: PodView,
    demands: tuple[Demand, ...] = (user(),),
    of: ModelServer | None = None,
    children: dict[str, Object] | None = None,
    refused: Problem | None = None,
    platform: PlatformConfig = PLATFORM,
) -> ObservedServer:
    return ObservedServer(of or server(), platform, demands, children or {}, tuple(pods), refused)


def rolled_out(of: ModelServer | None = None, replicas: int = 1) -> dict[str, Object]:
    """The children as they are once everything has been applied."""
    plan = decide_model_server(observed(of=of, demands=(user(replicas),)), NOW)
    live = {child["kind"]: child for child in plan.apply}
    live["StatefulSet"]["metadata"]["generation"] = 1
    live["StatefulSet"]["status"] = {"observedGeneration": 1, "updateRevision": "a", "currentRevision": "a"}
    return live


def conditions(plan: Plan) -> dict[str, tuple[str, str]]:
    assert plan.status is not None
    return {c["type"]: (c["status"], c["reason"]) for c in plan.status["conditions"]}


def message(plan: Plan) -> str:
    assert plan.status is not None
    return next(str(c["message"]) for c in plan.status["conditions"] if c["type"] == "Ready")


def replicas(plan: Plan) -> int:
    return next(int(c["spec"]["replicas"]) for c in plan.apply if c["kind"] == "StatefulSet")


def test_a_new_server_gets_all_its_children_with_the_policy_before_the_pods() -> None:
    plan = decide_model_server(observed(), NOW)
    assert [c["kind"] for c in plan.apply] == ["NetworkPolicy", "Service", "PodDisruptionBudget", "StatefulSet"]
    assert conditions(plan)["Ready"] == ("Unknown", "PodsStarting")


def test_demands_combine_by_maximum() -> None:
    plan = decide_model_server(observed(demands=(user(1), user(3, "b"), user(0, "c"))), NOW)
    assert replicas(plan) == 3
    assert plan.status is not None
    assert plan.status["desiredReplicas"] == 3
    assert plan.status["userCount"] == 3
    assert [u["name"] for u in plan.status["users"]] == ["b", "c", "support-bot"]


def test_only_suspended_users_mean_no_pods() -> None:
    plan = decide_model_server(observed(demands=(user(0),)), NOW)
    assert replicas(plan) == 0


def test_ready_pods_on_the_newest_template_make_it_ready() -> None:
    plan = decide_model_server(observed(pod(ready=True), children=rolled_out()), NOW)
    found = conditions(plan)
    assert found["Ready"] == ("True", "AllPodsReady")
    assert {found[t][0] for t in ("ModelPresent", "ModelMatched", "Warm")} == {"True"}
    assert "Reconciling" not in found
    assert plan.status is not None
    assert (plan.status["replicas"], plan.status["readyReplicas"]) == (1, 1)


def test_a_second_look_at_the_same_writes_the_same_status() -> None:
    first = decide_model_server(observed(pod(ready=True), children=rolled_out()), NOW)
    again = server(status=first.status)
    second = decide_model_server(observed(pod(ready=True), children=rolled_out(), of=again), NOW + timedelta(hours=1))
    assert second.status == first.status
    assert (second.delete, second.events, second.requeue_after) == ((), (), None)


def test_all_children_are_wanted_at_every_look_so_that_drift_is_repaired() -> None:
    plan = decide_model_server(observed(pod(ready=True), children=rolled_out()), NOW)
    assert [c["kind"] for c in plan.apply] == ["NetworkPolicy", "Service", "PodDisruptionBudget", "StatefulSet"]


@pytest.mark.parametrize(
    "status",
    [
        {"observedGeneration": 0, "updateRevision": "a", "currentRevision": "a"},
        {"observedGeneration": 1, "updateRevision": "b", "currentRevision": "a", "updatedReplicas": 0},
    ],
)
def test_pods_on_an_old_template_are_rolling_out(status: Object) -> None:
    live = rolled_out()
    live["StatefulSet"]["status"] = status
    plan = decide_model_server(observed(pod(ready=True), children=live), NOW)
    assert conditions(plan)["Ready"] == ("Unknown", "RollingOut")


def test_an_edited_profile_rolls_the_pods_in_place() -> None:
    edited = PLATFORM.model_copy(
        update={"profiles": [PLATFORM.profiles[0].model_copy(update={"image": "ollama/ollama:0.25.0"})]}
    )
    plan = decide_model_server(observed(pod(ready=True), children=rolled_out(), platform=edited), NOW)
    template = plan.apply[-1]["spec"]["template"]["spec"]
    assert template["initContainers"][0]["image"] == "ollama/ollama:0.25.0"


def test_a_profile_that_is_gone_leaves_the_pods_alone() -> None:
    other = PLATFORM.model_copy(update={"profiles": [PLATFORM.profiles[0].model_copy(update={"name": "other"})]})
    plan = decide_model_server(observed(pod(ready=True), children=rolled_out(), platform=other), NOW)
    assert plan.apply == ()
    assert conditions(plan)["Stalled"] == ("True", "ProfileUnknown")
    assert "other" in message(plan)


def test_children_of_an_earlier_server_of_the_name_are_waited_for() -> None:
    live = rolled_out()
    live["StatefulSet"]["metadata"]["ownerReferences"][0]["uid"] = "of-the-dead"
    plan = decide_model_server(observed(children=live), NOW)
    assert plan.apply == ()
    assert conditions(plan)["Reconciling"] == ("True", "OldChildrenLeaving")


@pytest.mark.parametrize(
    ("reason", "stalled", "says"),
    [
        ("TagMoved", True, "new revision"),
        ("DiskFull", True, "storage.size"),
        ("ModelUnknown", True, "spec.model.name"),
        ("NotEnoughMemory", True, "memory of the profile"),
        ("OllamaTooOld", True, "image of the profile"),
        ("PullFailed", False, "tried again"),
        ("RegistryUnreachable", False, "modelRegistries"),
        ("LoadFailed", False, "logs -c ollama"),
        ("SomethingNew", False, "tried again"),
    ],
)
def test_the_word_of_an_agent_becomes_a_condition_with_what_to_do(reason: str, stalled: bool, says: str) -> None:
    agent = AgentView("Failed", reason, "the agent's own words")
    plan = decide_model_server(observed(pod(agent=agent), children=rolled_out()), NOW)
    kind = "Stalled" if stalled else "Reconciling"
    assert conditions(plan)[kind] == ("True", reason)
    assert says in message(plan)
    assert "the agent's own words" in message(plan)
    assert [e.reason for e in plan.events] == ([reason] if stalled else [])


def test_a_model_that_cannot_be_loaded_is_on_disk_all_the_same() -> None:
    broken = AgentView("Failed", "LoadFailed", "no such tensor", on_disk=True)
    plan = decide_model_server(observed(pod(agent=broken), children=rolled_out()), NOW)
    found = conditions(plan)
    assert found["ModelPresent"][0] == "True"
    assert found["ModelMatched"][0] == "True"
    assert found["Warm"][0] == "False"


def test_a_moved_tag_on_a_new_pod_does_not_hide_behind_old_ones() -> None:
    moved = pod("x-1", agent=AgentView("Failed", "TagMoved", "other digest"))
    plan = decide_model_server(
        observed(pod(ready=True), moved, demands=(user(2),), children=rolled_out(replicas=2)), NOW
    )
    found = conditions(plan)
    assert found["ModelMatched"] == ("False", "TagMoved")
    assert found["Stalled"] == ("True", "TagMoved")
    assert plan.status is not None
    assert plan.status["readyReplicas"] == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('pods "x-0" is forbidden: exceeded quota: small, requested: cpu=2', "QuotaExceeded"),
        ('pods "x-0" is forbidden: violates PodSecurity "restricted:latest": privileged', "PodSecurityRefused"),
        ('pods "x-0" is forbidden: no PriorityClass with name models was found', "PodRefused"),
        ("Internal error occurred", "PodNotCreated"),
    ],
)
def test_a_refused_pod_is_told_from_the_events_of_its_set(text: str, reason: str) -> None:
    events = [
        {"reason": "FailedCreate", "message": "old news", "lastTimestamp": "2026-01-10T07:00:00Z"},
        {"reason": "FailedCreate", "message": text, "lastTimestamp": "2026-01-10T07:59:00Z"},
        {"reason": "SuccessfulCreate", "message": "fine", "lastTimestamp": "2026-01-10T07:30:00Z"},
    ]
    refused = refused_pods(events)
    assert refused is not None
    plan = decide_model_server(observed(refused=refused, children=rolled_out()), NOW)
    assert conditions(plan)["Ready"][1] == reason
    assert text in message(plan)


def test_a_refusal_is_over_when_a_pod_was_created_after_it() -> None:
    events = [
        {"reason": "FailedCreate", "message": "exceeded quota", "lastTimestamp": "2026-01-10T07:00:00Z"},
        {"reason": "SuccessfulCreate", "message": "fine", "lastTimestamp": "2026-01-10T07:30:00Z"},
    ]
    assert refused_pods(events) is None


def test_old_refusals_do_not_count_once_the_pods_exist() -> None:
    refused = Problem("QuotaExceeded", "was full")
    plan = decide_model_server(observed(pod(), refused=refused, children=rolled_out()), NOW)
    assert conditions(plan)["Ready"] == ("Unknown", "PodsStarting")


def raw_pod(**status: Any) -> Object:
    return {"metadata": {"name": "x-0", "uid": "u", "resourceVersion": "1"}, "spec": {}, "status": status}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1"}]},
            "Unschedulable",
        ),
        ({"initContainerStatuses": [{"name": "ollama", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]},
         "ImagePullFailed"),
        ({"containerStatuses": [{"name": "agent", "state": {"waiting": {"reason": "CreateContainerConfigError"}}}]},
         "ContainerNotStarted"),
        (
            {
                "containerStatuses": [
                    {
                        "name": "ollama",
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
                    }
                ]
            },
            "OutOfMemory",
        ),
    ],
)  # fmt: skip
def test_a_pod_that_does_not_start_says_why(status: Object, reason: str) -> None:
    plan = decide_model_server(observed(pod_view(raw_pod(**status)), children=rolled_out()), NOW)
    assert conditions(plan)["Reconciling"] == ("True", reason)


def test_progress_of_a_pull_is_shown_in_steps_of_five_percent() -> None:
    first = decide_model_server(observed(pod(agent=pulling(41)), children=rolled_out()), NOW)
    assert first.status is not None
    assert first.status["pull"]["completedBytes"] == 41
    assert "40 %" in message(first)
    assert conditions(first)["ModelPresent"][0] == "False"
    seen = server(status=first.status)
    little = decide_model_server(observed(pod(agent=pulling(44)), children=rolled_out(), of=seen), NOW)
    assert little.status == first.status
    more = decide_model_server(observed(pod(agent=pulling(46)), children=rolled_out(), of=seen), NOW)
    assert more.status is not None
    assert more.status["pull"]["completedBytes"] == 46


def test_the_least_far_pull_counts() -> None:
    plan = decide_model_server(
        observed(
            pod(agent=pulling(80)), pod("x-1", agent=pulling(20)), demands=(user(2),), children=rolled_out(replicas=2)
        ),
        NOW,
    )
    assert plan.status is not None
    assert plan.status["pull"]["completedBytes"] == 20


def test_a_pull_that_outlives_the_deadline_of_every_user_is_stalled() -> None:
    demands = (user(pull_seconds=60), user(name="b", pull_seconds=120))
    early = decide_model_server(
        observed(pod(agent=pulling(10)), demands=demands, children=rolled_out()), NOW + timedelta(seconds=100)
    )
    assert conditions(early)["Reconciling"] == ("True", "Pulling")
    late = decide_model_server(
        observed(pod(agent=pulling(10)), demands=demands, children=rolled_out()), NOW + timedelta(seconds=120)
    )
    assert conditions(late)["Stalled"] == ("True", "PullDeadlineExceeded")


def test_an_attempt_that_starts_again_does_not_start_the_clock_again() -> None:
    first = decide_model_server(observed(pod(agent=pulling(50)), children=rolled_out()), NOW)
    later = NOW + timedelta(seconds=3600)
    again = decide_model_server(
        observed(pod(agent=pulling(55, started=later)), children=rolled_out(), of=server(status=first.status)), later
    )
    assert conditions(again)["Stalled"] == ("True", "PullDeadlineExceeded")


def test_without_a_user_the_pods_stay_until_the_server_is_removed() -> None:
    of = server(status={"observedGeneration": 1, "desiredReplicas": 2})
    plan = decide_model_server(observed(of=of, demands=()), NOW)
    assert replicas(plan) == 2
    assert plan.status is not None
    assert plan.status["unusedSince"] == "2026-01-10T08:00:00Z"
    assert plan.delete == ()
    gone = decide_model_server(observed(of=server(status=plan.status), demands=()), NOW + timedelta(seconds=600))
    assert [(d.kind, d.uid, d.resource_version) for d in gone.delete] == [("ModelServer", of.metadata.uid, "1")]
    assert gone.status is None


def test_a_user_that_comes_back_ends_the_wait_for_removal() -> None:
    of = server(status={"observedGeneration": 1, "unusedSince": "2026-01-01T00:00:00Z", "desiredReplicas": 1})
    plan = decide_model_server(observed(of=of), NOW)
    assert plan.delete == ()
    assert plan.status is not None
    assert "unusedSince" not in plan.status


def test_a_pod_on_a_lost_node_is_replaced_after_five_minutes_and_its_claim_goes_first() -> None:
    lost = pod(node_lost_since=NOW, claim=("models-x-0", "uid-claim", "9"))
    early = decide_model_server(observed(lost, children=rolled_out()), NOW + timedelta(seconds=299))
    assert early.delete == ()
    assert conditions(early)["Reconciling"] == ("True", "NodeLost")
    late = decide_model_server(observed(lost, children=rolled_out()), NOW + timedelta(seconds=300))
    assert [(d.kind, d.name, d.grace_period_seconds) for d in late.delete] == [
        ("PersistentVolumeClaim", "models-x-0", None),
        ("Pod", "x-0", 0),
    ]


def test_a_server_that_is_being_deleted_is_left_alone() -> None:
    of = server(deletionTimestamp="2026-01-10T08:00:00Z")
    assert decide_model_server(observed(of=of), NOW) == Plan()


def test_a_pod_whose_agent_is_silent_is_shown_as_unreachable() -> None:
    plan = decide_model_server(observed(pod(), children=rolled_out()), NOW)
    assert plan.status is not None
    assert plan.status["pods"] == [{"name": "x-0", "ready": False, "phase": "Unreachable", "loaded": False}]


def test_existing_conditions_keep_their_times() -> None:
    of = server(status={"observedGeneration": 1, "conditions": [condition("ModelPresent", "True", "OnDisk")]})
    plan = decide_model_server(observed(pod(ready=True), of=of, children=rolled_out()), NOW + timedelta(days=1))
    assert plan.status is not None
    present = next(c for c in plan.status["conditions"] if c["type"] == "ModelPresent")
    assert present["lastTransitionTime"] == "2026-01-10T08:00:00Z"


def test_after_a_restart_nothing_is_written_before_the_pods_have_been_asked() -> None:
    before = decide_model_server(observed(pod(agent=pulling(41)), children=rolled_out()), NOW)
    of = server(status=before.status)
    plan = decide_model_server(observed(pod(asked=False), of=of, children=rolled_out()), NOW)
    assert (plan.status, plan.events) == (None, ())
    ready = decide_model_server(
        observed(pod(ready=True, agent=AgentView("Ready", loaded=True, processor="CPU")), children=rolled_out()), NOW
    )
    again = decide_model_server(
        observed(pod(ready=True, asked=False), of=server(status=ready.status), children=rolled_out()), NOW
    )
    assert again.status == ready.status
