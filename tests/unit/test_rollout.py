"""Rollouts by the clock: who is moved when, and which deadline stops the waiting. Hours pass as arguments."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from retinue.domain.rollout import Step, Target, advance
from retinue.domain.server_view import ServerView
from retinue.resources.v1alpha1.assistantdeployment import AssistantDeploymentStatus, Deadlines

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 10, 8, 0, tzinfo=UTC)
OLD, NEW = Target("bot-1111111111", "llama-a"), Target("bot-2222222222", "gemma-b")
DEADLINES = Deadlines(pull_seconds=3600, start_seconds=600, rollout_seconds=7200)


def view(name: str = NEW.model_server, *, pods: int = 0, **over: Any) -> ServerView:
    fields: dict[str, Any] = {
        "exists": True,
        "replicas": pods,
        "ready_replicas": pods,
        "present_since": None,
        "stalled": False,
        "reason": "Pulling",
        "message": "pulling gemma: 40 %",
        "matched": None,
    }
    return ServerView(name=name, **{**fields, **over})


def served(target: Target = OLD, **over: Any) -> AssistantDeploymentStatus:
    return AssistantDeploymentStatus(active_revision=target.revision, model_server=target.model_server, **over)


def step(
    status: AssistantDeploymentStatus,
    server: ServerView,
    *,
    target: Target = NEW,
    wanted: int = 1,
    paused: bool = False,
    after: float = 0,
) -> Step:
    return advance(
        status,
        target,
        server,
        wanted=wanted,
        deadlines=DEADLINES,
        paused=paused,
        now=NOW + timedelta(seconds=after),
    )


def status_after(taken: Step) -> AssistantDeploymentStatus:
    return AssistantDeploymentStatus(
        active_revision=taken.active_revision,
        model_server=taken.model_server,
        candidate=taken.candidate,
        rollout=taken.rollout,
        history=taken.history,
    )


def test_a_change_of_prompt_switches_at_once_on_the_same_server() -> None:
    taken = step(served(), view("llama-a"), target=Target(NEW.revision, OLD.model_server))
    assert (taken.active_revision, taken.model_server, taken.candidate) == (NEW.revision, OLD.model_server, None)
    assert taken.switched
    assert [(h.revision, h.from_revision) for h in taken.history] == [(NEW.revision, OLD.revision)]


def test_a_change_of_model_waits_until_the_new_server_is_ready() -> None:
    waiting = step(served(), view())
    assert (waiting.active_revision, waiting.model_server) == (OLD.revision, OLD.model_server)
    assert waiting.candidate is not None
    assert waiting.candidate.change_class == "ModelChange"
    assert waiting.rollout is not None
    assert waiting.rollout.deadline_at == NOW + timedelta(seconds=7200)
    done = step(status_after(waiting), view(pods=1), after=60)
    assert (done.active_revision, done.model_server, done.candidate, done.rollout) == (
        NEW.revision,
        NEW.model_server,
        None,
        None,
    )


def test_as_many_pods_as_are_wanted_must_be_ready_before_users_move() -> None:
    assert not step(served(), view(pods=1), wanted=2).switched
    assert step(served(), view(pods=2), wanted=2).switched


def test_another_runtime_of_the_same_revision_is_a_rebind_without_history() -> None:
    target = Target(OLD.revision, NEW.model_server)
    waiting = step(served(), view(), target=target)
    assert waiting.candidate is not None
    assert waiting.candidate.change_class == "Rebind"
    done = step(status_after(waiting), view(pods=1), target=target, after=5)
    assert done.model_server == NEW.model_server
    assert done.history == ()


def test_the_first_revision_becomes_active_when_its_server_is_ready() -> None:
    first = AssistantDeploymentStatus()
    assert step(first, view()).active_revision is None
    done = step(first, view(pods=1))
    assert done.active_revision == NEW.revision
    assert [(h.revision, h.from_revision) for h in done.history] == [(NEW.revision, None)]


def test_what_is_served_already_changes_nothing() -> None:
    before = served()
    assert step(before, view("llama-a", pods=1), target=OLD) == Step(OLD.revision, OLD.model_server)


def test_going_back_while_a_rollout_runs_drops_the_candidate() -> None:
    waiting = status_after(step(served(), view()))
    back = step(waiting, view("llama-a", pods=1), target=OLD)
    assert (back.active_revision, back.candidate, back.rollout) == (OLD.revision, None, None)


def test_a_new_target_starts_the_clocks_again() -> None:
    waiting = status_after(step(served(), view()))
    other = step(waiting, view("other"), target=Target("bot-3333333333", "other"), after=3000)
    assert other.candidate is not None
    assert other.candidate.since == NOW + timedelta(seconds=3000)


@pytest.mark.parametrize(
    ("server", "after", "field"),
    [
        (view(), 3599, None),
        (view(), 3600, "spec.deadlines.pullSeconds"),
        (view(present_since=NOW + timedelta(seconds=3000)), 3599, None),
        (view(present_since=NOW + timedelta(seconds=3000)), 3600, "spec.deadlines.startSeconds"),
        (view(present_since=NOW - timedelta(days=3)), 599, None),
        (view(present_since=NOW - timedelta(days=3)), 600, "spec.deadlines.startSeconds"),
        (view(), 7200, "spec.deadlines.rolloutSeconds"),
        (view(exists=False), 3600, "spec.deadlines.pullSeconds"),
    ],
)
def test_each_clock_stops_the_waiting_and_names_its_field(server: ServerView, after: int, field: str | None) -> None:
    waiting = status_after(step(served(), view()))
    taken = step(waiting, server, after=after)
    assert taken.active_revision == OLD.revision
    if field is None:
        assert taken.problem is None
        assert taken.requeue_after is not None
        assert taken.requeue_after >= 1
    else:
        assert taken.problem is not None
        assert taken.problem.reason == "ProgressDeadlineExceeded"
        assert taken.problem.message.startswith(field)
        assert not taken.problem.waits


def test_the_message_of_a_deadline_holds_the_words_of_the_server() -> None:
    waiting = status_after(step(served(), view()))
    taken = step(waiting, view(message="pod x: no space left; raise storage.size"), after=4000)
    assert taken.problem is not None
    assert "no space left" in taken.problem.message


def test_a_server_that_gets_ready_after_the_deadline_is_still_taken() -> None:
    waiting = status_after(step(served(), view()))
    assert step(waiting, view(pods=1), after=90000).switched


def test_the_next_look_is_at_the_nearest_deadline() -> None:
    waiting = status_after(step(served(), view()))
    assert step(waiting, view(), after=600).requeue_after == 3000


def test_a_paused_rollout_stands_still_and_its_clocks_start_again() -> None:
    waiting = status_after(step(served(), view()))
    still = step(waiting, view(pods=1), paused=True, after=100)
    assert (still.active_revision, still.rollout, still.problem) == (OLD.revision, None, None)
    assert still.candidate == waiting.candidate
    again = step(status_after(still), view(), after=90000)
    assert again.problem is None
    assert again.rollout is not None
    assert again.rollout.started_at == NOW + timedelta(seconds=90000)


def test_a_paused_deployment_does_not_even_switch_a_prompt() -> None:
    taken = step(served(), view("llama-a", pods=1), target=Target(NEW.revision, OLD.model_server), paused=True)
    assert taken.active_revision == OLD.revision


def test_history_keeps_the_ten_newest_changes() -> None:
    status = AssistantDeploymentStatus()
    for number in range(14):
        target = Target(f"bot-{number:010d}", "llama-a")
        status = status_after(step(status, view("llama-a", pods=1), target=target, after=number))
    assert [h.revision for h in status.history] == [f"bot-{n:010d}" for n in range(13, 3, -1)]
