"""Gathers what a decision about an AssistantDeployment looks at, as its reconciler does, and reads the plan."""

from datetime import UTC, datetime, timedelta
from typing import Any

from builders import (
    OTHER_DIGEST,
    OTHER_MODEL,
    condition,
    make_assistant,
    make_deployment,
    make_model_server,
    make_namespace,
    make_revision,
    make_snapshot,
)
from retinue.domain.conditions import Problem
from retinue.domain.deployment_decision import ObservedDeployment, decide_deployment
from retinue.domain.deployment_target import Wanted, pause_of, wanted_of, wanted_revision
from retinue.domain.environment import environment_of
from retinue.domain.plan import Plan
from retinue.resources.platform import PlatformConfig
from retinue.resources.v1alpha1.assistant import Assistant
from retinue.resources.v1alpha1.assistantdeployment import AssistantDeployment
from retinue.resources.v1alpha1.modelserver import ModelServer

Object = dict[str, Any]
NOW = datetime(2026, 1, 10, 8, 0, tzinfo=UTC)
PLATFORM = PlatformConfig.model_validate(
    {
        "agentImage": "retinue:0.1.0",
        "defaultProfile": "small-cpu",
        "profiles": [{"name": "small-cpu", "image": "i"}, {"name": "gpu", "image": "i"}],
        "modelRegistries": [{"host": "registry.ollama.ai", "default": True}],
        "externalServers": [{"name": "workstation", "url": "http://10.0.0.5:11434"}],
    }
)
REVISION = make_revision()
NAME = REVISION["metadata"]["name"]
OTHER = make_revision(snapshot=make_snapshot(prompts=[{"name": "system", "role": "Primary", "text": "Be brief."}]))
GEMMA = make_revision(snapshot=make_snapshot(model={"name": OTHER_MODEL, "digest": OTHER_DIGEST}))


def look(
    deployment: Object,
    *servers: Object,
    assistant: Object | None = None,
    revisions: tuple[Object, ...] = (REVISION, OTHER, GEMMA),
    namespace: Object | None = None,
) -> ObservedDeployment:
    """Gathers as the reconciler does, from the given objects."""
    read = AssistantDeployment.from_object(deployment)
    author = Assistant.from_object(assistant) if assistant is not None else None
    environment = environment_of(read.namespace, make_namespace() if namespace is None else namespace)
    name = wanted_revision(read, author)
    wanted: Wanted | Problem
    if isinstance(environment, Problem):
        wanted = environment
    elif isinstance(name, Problem):
        wanted = name
    else:
        revision = next((r for r in revisions if r["metadata"]["name"] == name), None)
        wanted = wanted_of(read, name, revision, environment, PLATFORM)
    return ObservedDeployment(
        deployment=read,
        environment=environment,
        wanted=wanted,
        platform=PLATFORM,
        pause=pause_of(read, author),
        assistant=author,
        servers={s["metadata"]["name"]: ModelServer.from_object(s) for s in servers},
        revision_label="r7",
    )


def authored(revision: Object = REVISION, lifecycle: str = "Active", **status: Any) -> Object:
    return make_assistant(
        spec={"lifecycle": lifecycle},
        status={"observedGeneration": 1, "latestRevision": revision["metadata"]["name"], **status},
    )


def pinned(revision: Object = REVISION, status: Object | None = None, **spec: Any) -> Object:
    return make_deployment(spec={"source": {"revision": revision["metadata"]["name"]}, **spec}, status=status)


def serving(pods: int = 1, **over: Any) -> Object:
    return make_model_server(
        status={
            "observedGeneration": 1,
            "replicas": pods,
            "readyReplicas": pods,
            "conditions": [condition("Ready"), condition("ModelMatched", reason="DigestMatches")],
        },
        **over,
    )


def troubled(kind: str, reason: str, message: str, **over: Any) -> Object:
    return make_model_server(
        status={
            "observedGeneration": 1,
            "conditions": [
                condition("Ready", "False" if kind == "Stalled" else "Unknown", reason, message),
                condition(kind, "True", reason, message),
            ],
        },
        **over,
    )


def active(revision: Object = REVISION, server: Object | None = None, **more: Any) -> Object:
    return {
        "observedGeneration": 1,
        "activeRevision": revision["metadata"]["name"],
        "modelServer": (server or make_model_server())["metadata"]["name"],
        **more,
    }


def decide(observed: ObservedDeployment, after: float = 0) -> Plan:
    return decide_deployment(observed, NOW + timedelta(seconds=after))


def status_of(plan: Plan) -> Object:
    assert plan.status is not None
    return plan.status


def found(plan: Plan) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in status_of(plan)["conditions"]}


def message(plan: Plan, kind: str = "Ready") -> str:
    return next(str(c["message"]) for c in status_of(plan)["conditions"] if c["type"] == kind)
