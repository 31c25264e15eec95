"""AssistantDeployment: what to write so that the wanted revision is served, and what its conditions say."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from retinue.domain.conditions import (
    FALSE,
    TRUE,
    Finding,
    Problem,
    merge,
    patient,
    paused,
    ready,
    working,
)
from retinue.domain.deployment_target import MISSING, Wanted, mode_of, model_server_object
from retinue.domain.environment import Environment
from retinue.domain.plan import Event, Plan
from retinue.domain.rollout import Step, Target, advance
from retinue.domain.server_view import ServerView, view_of
from retinue.domain.transitions import events_of
from retinue.resources.meta import AVAILABLE, LABEL_DEPLOYMENT
from retinue.resources.platform import PlatformConfig
from retinue.resources.reasons import (
    MODEL_SERVER_CONFLICT,
    NO_READY_POD,
    NOTHING_ACTIVE,
    PODS_STARTING,
    REVISION_ACTIVATED,
    ROLLOUT_IN_PROGRESS,
    SCALED_TO_ZERO,
    SERVING,
)
from retinue.resources.v1alpha1.assistant import Assistant
from retinue.resources.v1alpha1.assistantdeployment import AssistantDeployment, AssistantDeploymentStatus
from retinue.resources.v1alpha1.modelserver import ModelServer

RETRY_LEAVING_SECONDS: Final = 2.0
"""Seconds until a look at a ModelServer that was being deleted when it was needed again."""


@dataclass(frozen=True, slots=True)
class ObservedDeployment:
    """Everything that a decision about one AssistantDeployment looks at."""

    deployment: AssistantDeployment
    environment: Environment | Problem
    wanted: Wanted | Problem
    """What `spec` asks for, or why that is not known or not possible."""
    platform: PlatformConfig
    pause: Problem | None = None
    """Why nothing shall run now: suspended, or the Assistant is Inactive or Archived."""
    assistant: Assistant | None = None
    servers: dict[str, ModelServer] = field(default_factory=dict)
    """The ModelServers that the deployment is bound to or wants, those that exist, by name."""
    revision_label: str = ""
    """`r7` for people, or empty where the revision has no number yet."""


def decide_deployment(observed: ObservedDeployment, now: datetime) -> Plan:
    """The plan for one AssistantDeployment. A deployment that is being deleted needs nothing: it owns nothing."""
    deployment = observed.deployment
    if deployment.deleting:
        return Plan()
    before = deployment.status
    generation = deployment.metadata.generation
    step, findings, requeue = _findings(observed, now)
    findings = (*findings, *_side_findings(observed, step))
    status = AssistantDeploymentStatus(
        observed_generation=generation,
        environment=observed.environment.name if isinstance(observed.environment, Environment) else None,
        mode=mode_of(deployment),
        desired_revision=_desired(observed),
        active_revision=step.active_revision,
        model_server=step.model_server,
        candidate=step.candidate,
        rollout=step.rollout,
        history=step.history,
        selector=f"{LABEL_DEPLOYMENT}={deployment.name}",
        conditions=merge(before.conditions, findings, generation, now),
        **_counts(observed, step),
    )
    return Plan(
        apply=_server_to_apply(observed),
        status=status.to_object(),
        events=_events(observed, step, findings),
        requeue_after=requeue,
    )


def _events(observed: ObservedDeployment, step: Step, findings: tuple[Finding, ...]) -> tuple[Event, ...]:
    """Transitions of Ready, and the switch that no transition tells: Ready on one revision, then Ready on another."""
    before = observed.deployment.status
    told = events_of(before.conditions, findings)
    if not step.switched or before.active_revision is None or any(event.type == "Normal" for event in told):
        return told
    was = f"{before.active_revision} on {before.model_server}"
    message = f"{step.active_revision} on {step.model_server} serves instead of {was}"
    return (*told, Event("Normal", REVISION_ACTIVATED, message))


def _desired(observed: ObservedDeployment) -> str | None:
    if isinstance(observed.wanted, Wanted):
        return observed.wanted.revision
    pinned = observed.deployment.spec.source.revision
    latest = observed.assistant.status.latest_revision if observed.assistant is not None else None
    return pinned or latest


def _server_to_apply(observed: ObservedDeployment) -> tuple[dict[str, Any], ...]:
    """The ModelServer of the wanted key, if it is not there. Its spec is immutable, so there is nothing to repair."""
    wanted = observed.wanted
    if observed.pause is not None or not isinstance(wanted, Wanted) or wanted.server_name in observed.servers:
        return ()
    return (model_server_object(wanted, observed.platform),)


def _findings(observed: ObservedDeployment, now: datetime) -> tuple[Step, tuple[Finding, ...], float | None]:
    """The step of the rollout, the conditions Ready, Reconciling and Stalled, and when to look again."""
    deployment, wanted = observed.deployment, observed.wanted
    before = deployment.status
    stay = Step(before.active_revision, before.model_server, history=before.history)
    if observed.pause is not None and not isinstance(wanted, Wanted):
        return stay, paused(observed.pause.reason, observed.pause.message), None
    if isinstance(observed.environment, Problem):
        return stay, observed.environment.findings(), None
    if isinstance(wanted, Problem):
        problem, requeue = wanted, None
        if problem.reason in MISSING:
            problem, requeue = patient(problem, before.conditions, deployment.metadata.generation, now)
        return stay, problem.findings(), requeue
    server = view_of(wanted.server_name, observed.servers.get(wanted.server_name))
    taken = _name_taken(wanted, observed.servers.get(wanted.server_name))
    if taken is not None:
        return stay, taken.findings(), None
    step = advance(
        before,
        Target(wanted.revision, wanted.server_name),
        server,
        wanted=deployment.spec.replicas,
        deadlines=deployment.spec.deadlines,
        paused=observed.pause is not None,
        now=now,
    )
    if observed.pause is not None:
        return step, paused(observed.pause.reason, observed.pause.message), None
    if step.candidate is not None:
        return step, _rolling(step, server), step.requeue_after
    leaving = observed.servers.get(wanted.server_name)
    requeue = RETRY_LEAVING_SECONDS if leaving is not None and leaving.deleting else None
    return step, _serving(observed, server), requeue


def _name_taken(wanted: Wanted, server: ModelServer | None) -> Problem | None:
    if server is None or server.spec.key == wanted.server.key:
        return None
    return Problem(
        MODEL_SERVER_CONFLICT,
        f"ModelServer {wanted.server_name} exists with another key; delete it if nobody needs it",
    )


def _rolling(step: Step, server: ServerView) -> tuple[Finding, ...]:
    """A candidate is on its way: its own trouble is the deployment's trouble, in the server's words."""
    if step.problem is not None:
        return step.problem.findings()
    going = f"{step.candidate.change_class.value} to {step.candidate.revision}" if step.candidate is not None else ""
    if server.stalled:
        return Problem(server.reason, f"{going}: {server.why_not()}").findings()
    return working(server.reason or ROLLOUT_IN_PROGRESS, f"{going}: {server.why_not()}")


def _serving(observed: ObservedDeployment, server: ServerView) -> tuple[Finding, ...]:
    """The wanted revision is the active one; are there enough pods behind it?"""
    replicas = observed.deployment.spec.replicas
    if not isinstance(observed.wanted, Wanted):
        raise TypeError("a deployment without a wanted revision cannot be serving it")
    revision = f"{observed.revision_label} ({observed.wanted.revision})".lstrip()
    if replicas == 0:
        return ready(SCALED_TO_ZERO, f"{revision} is active; spec.replicas is 0, so requests get 503")
    if server.serves(replicas):
        return ready(SERVING, f"{revision} on {replicas} of {replicas} wanted pods of {server.name}")
    counted = f"{min(server.ready_replicas, replicas)} of {replicas} wanted pods are Ready; {server.why_not()}"
    if server.stalled:
        return Problem(server.reason, counted).findings()
    return working(server.reason or PODS_STARTING, counted)


def _side_findings(observed: ObservedDeployment, step: Step) -> tuple[Finding, ...]:
    """Available and ModelMatched: about what users reach now, whatever becomes of the rollout."""
    if step.model_server is None or step.active_revision is None:
        return (Finding(AVAILABLE, FALSE, NOTHING_ACTIVE, "no revision has become active yet"),)
    bound = view_of(step.model_server, observed.servers.get(step.model_server))
    matched = (bound.matched,) if bound.matched is not None else ()
    if observed.pause is not None:
        return (Finding(AVAILABLE, FALSE, observed.pause.reason, observed.pause.message), *matched)
    if observed.deployment.spec.replicas == 0:
        return (Finding(AVAILABLE, FALSE, SCALED_TO_ZERO, "spec.replicas is 0"), *matched)
    if bound.serves(1):
        return (Finding(AVAILABLE, TRUE, SERVING, f"{step.active_revision} on {bound.name}"), *matched)
    return (Finding(AVAILABLE, FALSE, NO_READY_POD, bound.why_not()), *matched)


def _counts(observed: ObservedDeployment, step: Step) -> dict[str, int]:
    """Pods, at most what this deployment asked for: a shared server may have more for others."""
    asked = 0 if observed.pause is not None else observed.deployment.spec.replicas

    def counted(name: str | None) -> tuple[int, int]:
        if name is None:
            return 0, 0
        server = view_of(name, observed.servers.get(name))
        return min(server.replicas, asked), min(server.ready_replicas, asked)

    stable, ready_pods = counted(step.model_server)
    other = step.candidate.model_server if step.candidate is not None else None
    extra = counted(other)[0] if other != step.model_server else 0
    return {"replicas": stable + extra, "stable_replicas": stable, "ready_replicas": ready_pods}
