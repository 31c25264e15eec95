"""How a deployment gets from what it serves to what it shall serve: classes, order and clocks of a rollout.

Pure: `now` is an argument, and every clock starts from a time that stands in a status, so that a restart of the
operator, or hours without one, change nothing.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from retinue.domain.conditions import Problem, whole_seconds
from retinue.domain.server_view import ServerView
from retinue.resources.reasons import PROGRESS_DEADLINE_EXCEEDED
from retinue.resources.v1alpha1.assistantdeployment import (
    AssistantDeploymentStatus,
    Candidate,
    ChangeClass,
    Deadlines,
    HistoryEntry,
    Rollout,
)

MAX_HISTORY: Final = 10


@dataclass(frozen=True, slots=True)
class Target:
    """What shall be served: which revision, by which ModelServer."""

    revision: str
    model_server: str


@dataclass(frozen=True, slots=True)
class Step:
    """Where a rollout stands after one look at it."""

    active_revision: str | None
    model_server: str | None
    """The ModelServer that users are sent to."""
    candidate: Candidate | None = None
    rollout: Rollout | None = None
    history: tuple[HistoryEntry, ...] = ()
    switched: bool = False
    """Whether users were moved in this step."""
    problem: Problem | None = None
    """The deadline that has passed."""
    requeue_after: float | None = None
    """Seconds until the next deadline."""


def change_class(status: AssistantDeploymentStatus, target: Target) -> ChangeClass:
    """What has to happen: nothing but a switch, another model server, or only another runtime."""
    if status.model_server == target.model_server:
        return ChangeClass.CONFIG_ONLY
    if status.active_revision == target.revision:
        return ChangeClass.REBIND
    return ChangeClass.MODEL_CHANGE


def advance(
    status: AssistantDeploymentStatus,
    target: Target,
    server: ServerView,
    *,
    wanted: int,
    deadlines: Deadlines,
    paused: bool,
    now: datetime,
) -> Step:
    """One look at the rollout to `target`. `server` is the target's ModelServer, `wanted` the pods asked of it.

    Users move only when that server has enough Ready pods; until then, and after a deadline, they stay where they
    are. A new target starts the rollout again: a candidate of this release carries no traffic that could be lost.
    A paused rollout keeps its place and its clocks start again when it goes on.
    """
    active, bound = status.active_revision, status.model_server
    if active == target.revision and bound == target.model_server:
        return Step(active, bound, history=status.history)
    kind = change_class(status, target)
    candidate, clock = status.candidate, status.rollout
    fresh = candidate is None or candidate.revision != target.revision or candidate.model_server != target.model_server
    if paused:
        kept = None if fresh else candidate
        return Step(active, bound, candidate=kept, history=status.history)
    if kind is ChangeClass.CONFIG_ONLY or server.serves(wanted):
        return _switch(status, target, now)
    if fresh or candidate is None or clock is None:
        started = whole_seconds(now)
        candidate = Candidate(
            revision=target.revision, model_server=target.model_server, change_class=kind, since=started
        )
        clock = Rollout(started_at=started, deadline_at=started + timedelta(seconds=deadlines.rollout_seconds))
    problem, wait = _clocks(candidate, clock, server, deadlines, now)
    if problem is not None and active is not None:
        problem = Problem(problem.reason, f"{problem.message}; {active} is served meanwhile")
    return Step(
        active,
        bound,
        candidate=candidate,
        rollout=clock,
        history=status.history,
        problem=problem,
        requeue_after=wait,
    )


def _switch(status: AssistantDeploymentStatus, target: Target, now: datetime) -> Step:
    history = status.history
    if status.active_revision != target.revision:
        entry = HistoryEntry(revision=target.revision, from_revision=status.active_revision, at=whole_seconds(now))
        history = (entry, *history)[:MAX_HISTORY]
    return Step(target.revision, target.model_server, history=history, switched=True)


def _clocks(
    candidate: Candidate, clock: Rollout, server: ServerView, deadlines: Deadlines, now: datetime
) -> tuple[Problem | None, float | None]:
    """The first deadline that has passed, or the seconds until the next one."""
    if server.present_since is None:
        part = candidate.since + timedelta(seconds=deadlines.pull_seconds)
        field, what = "pullSeconds", f"the model was not on disk within {deadlines.pull_seconds} s"
    else:
        part = max(candidate.since, server.present_since) + timedelta(seconds=deadlines.start_seconds)
        field, what = "startSeconds", f"the model was on disk and not Ready within {deadlines.start_seconds} s"
    whole = clock.deadline_at
    for field_, what_, at in (
        ("rolloutSeconds", f"the rollout did not end within {deadlines.rollout_seconds} s", whole),
        (field, what, part),
    ):
        if now >= at:
            return Problem(
                PROGRESS_DEADLINE_EXCEEDED,
                f"spec.deadlines.{field_}: {what_}; {server.why_not()}; "
                "remove the cause or raise the deadline, it is still tried",
            ), None
    return None, (min(part, whole) - now).total_seconds()
