"""Why a ModelServer has fewer Ready pods than are wanted: one sentence with field, cause and what to do."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from retinue.domain.conditions import Problem
from retinue.domain.model_pods import PodView
from retinue.resources.reasons import (
    DISK_FULL,
    LOAD_FAILED,
    MODEL_INVALID,
    MODEL_UNKNOWN,
    NODE_LOST,
    NOT_ENOUGH_MEMORY,
    NOT_SUPPORTED,
    OLLAMA_TOO_OLD,
    OLLAMA_UNREACHABLE,
    PODS_STARTING,
    PULL_DAMAGED,
    PULL_DEADLINE_EXCEEDED,
    PULL_FAILED,
    PULL_STALLED,
    PULLING,
    REGISTRY_DENIED,
    REGISTRY_UNREACHABLE,
    TAG_MOVED,
)
from retinue.resources.v1alpha1.content import Model
from retinue.resources.v1alpha1.modelserver import Pull

_STUCK: Final = {
    TAG_MOVED: "make a new revision (any change of the Assistant), or push the old model again under its name",
    DISK_FULL: "raise storage.size of the profile and delete the ModelServer's claims, or choose another profile in "
    "spec.runtime.profile",
    MODEL_UNKNOWN: "correct spec.model.name of the Assistant, or push the model to the registry",
    MODEL_INVALID: "correct spec.model.name of the Assistant",
    NOT_SUPPORTED: "choose a model that can generate text",
    REGISTRY_DENIED: "make the model public, or give the registry credentials",
    NOT_ENOUGH_MEMORY: "raise the memory of the profile, or choose a smaller model or runner.numCtx",
    OLLAMA_TOO_OLD: "raise the image of the profile",
}
"""Reasons of an agent that do not go away by themselves, and what to do about them."""

_HEALING: Final = {
    PULL_FAILED: "it is tried again by itself",
    PULL_STALLED: "it is tried again by itself",
    PULL_DAMAGED: "it is tried again by itself; if it stays, delete the pod's claim and the pod",
    REGISTRY_UNREACHABLE: "it is tried again by itself; check modelRegistries of the chart and the network",
    LOAD_FAILED: "it is tried again by itself; see `kubectl logs -c ollama` of the pod",
    OLLAMA_UNREACHABLE: "see `kubectl logs -c ollama` of the pod",
}


def cause_of(
    pods: Sequence[PodView], wanted: int, model: Model, *, refused: Problem | None, pull: Pull | None, now: datetime
) -> Problem:
    """The most telling reason why pods are missing. What people must mend comes before what mends itself."""
    agents = _of_agents(pods, model)
    for problem in agents:
        if not problem.waits:
            return problem
    if refused is not None and len([p for p in pods if not p.leaving]) < wanted:
        return refused
    overdue = _pull_overdue(pull, model, now)
    if overdue is not None:
        return overdue
    others = [p for pod in pods if not pod.ready for p in (pod.scheduling, pod.waiting) if p is not None]
    for problem in (*others, *agents):
        return problem
    lost = next((pod for pod in pods if pod.node_lost_since is not None), None)
    if lost is not None:
        return Problem(
            NODE_LOST, f"pod {lost.name}: its node {lost.node} is NotReady; it is replaced after 5 min", waits=True
        )
    return _progress(pods, wanted, pull, model)


def _of_agents(pods: Sequence[PodView], model: Model) -> list[Problem]:
    found = []
    for pod in pods:
        agent = pod.agent
        if pod.ready or pod.leaving or agent is None or not agent.reason:
            continue
        said = agent.message or agent.reason
        if agent.reason in _STUCK:
            action, waits = _STUCK[agent.reason], False
        else:
            action, waits = _HEALING.get(agent.reason, "it is tried again by itself"), True
        found.append(Problem(agent.reason, f"pod {pod.name}, model {model.name}: {said}; {action}", waits=waits))
    return found


def _pull_overdue(pull: Pull | None, model: Model, now: datetime) -> Problem | None:
    if pull is None or pull.deadline_at is None or now < pull.deadline_at:
        return None
    return Problem(
        PULL_DEADLINE_EXCEEDED,
        f"model {model.name} has not arrived within spec.deadlines.pullSeconds ({percent(pull)}); "
        "check the registry and the network, or raise the deadline; the pull goes on",
    )


def percent(pull: Pull) -> str:
    """How far a pull is, in words: steps of 5 %, so that a message does not change with every byte."""
    if pull.total_bytes == 0:
        return "size not known yet"
    return f"{min(100, pull.completed_bytes * 100 // pull.total_bytes) // 5 * 5} %"


def _progress(pods: Sequence[PodView], wanted: int, pull: Pull | None, model: Model) -> Problem:
    ready = sum(pod.ready for pod in pods)
    counted = f"{ready} of {wanted} pods Ready"
    if pull is not None:
        return Problem(PULLING, f"pulling {model.name}: {percent(pull)}; {counted}", waits=True)
    phases = sorted({pod.agent.phase for pod in pods if pod.agent is not None and not pod.ready and not pod.leaving})
    if phases and phases != ["Ready"]:
        return Problem(phases[0], f"{phases[0].lower()} {model.name}; {counted}", waits=True)
    return Problem(PODS_STARTING, counted, waits=True)
