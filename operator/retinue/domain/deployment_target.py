"""From an AssistantDeployment's spec to what it needs: the wanted revision and the ModelServer that can serve it."""

from dataclasses import dataclass
from typing import Any, Final

from retinue.domain.conditions import Problem
from retinue.domain.environment import Environment
from retinue.domain.names import model_server_name, model_server_spec
from retinue.domain.revision import verify_revision
from retinue.resources.meta import API_VERSION, LABEL_MANAGED_BY, MANAGED_BY, READY, RECONCILING, STALLED
from retinue.resources.platform import PlatformConfig
from retinue.resources.reasons import (
    ASSISTANT_ARCHIVED,
    ASSISTANT_INACTIVE,
    ASSISTANT_IS_DRAFT,
    ASSISTANT_NOT_FOUND,
    ASSISTANT_STALLED,
    EXTERNAL_SERVER_UNKNOWN,
    PROFILE_NOT_ALLOWED,
    REVISION_NOT_FOUND,
    REVISION_OF_ANOTHER_ASSISTANT,
    SUSPENDED,
    WAITING_FOR_REVISION,
)
from retinue.resources.v1alpha1.assistant import Assistant, Lifecycle
from retinue.resources.v1alpha1.assistantdeployment import AssistantDeployment, Mode, Sharing
from retinue.resources.v1alpha1.content import Model, Runner
from retinue.resources.v1alpha1.modelserver import ModelServerSpec

MISSING: Final = frozenset({ASSISTANT_NOT_FOUND, REVISION_NOT_FOUND})
"""Reasons that end by themselves when objects were applied in another order; they get patience."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What shall be served: the revision, its content address, and the spec of the ModelServer for it."""

    revision: str
    digest: str
    model: Model
    server_name: str
    server: ModelServerSpec


def mode_of(deployment: AssistantDeployment) -> Mode:
    """How the wanted revision is chosen."""
    return Mode.LATEST if deployment.spec.source.latest is not None else Mode.GITOPS


def pause_of(deployment: AssistantDeployment, assistant: Assistant | None) -> Problem | None:
    """Why nothing shall run now although the deployment exists, or None. Not a failure: somebody asked for it."""
    if deployment.spec.suspend:
        return Problem(SUSPENDED, "spec.suspend is true: no pod is wanted and requests get 503; set it to false")
    if mode_of(deployment) is Mode.LATEST and assistant is not None:
        lifecycle = assistant.spec.lifecycle
        if lifecycle in (Lifecycle.INACTIVE, Lifecycle.ARCHIVED):
            return Problem(
                ASSISTANT_INACTIVE if lifecycle is Lifecycle.INACTIVE else ASSISTANT_ARCHIVED,
                f"spec.source.latest: Assistant {assistant.name} is {lifecycle.value}, so nothing is served; "
                + ("set its spec.lifecycle to Active" if lifecycle is Lifecycle.INACTIVE else "pin a revision instead"),
            )
    return None


def demand_of(deployment: AssistantDeployment, assistant: Assistant | None) -> int:
    """Model pods that this deployment wants behind it now."""
    return 0 if pause_of(deployment, assistant) is not None else deployment.spec.replicas


def wanted_revision(deployment: AssistantDeployment, assistant: Assistant | None) -> str | Problem:
    """Name of the revision that `spec.source` means."""
    spec = deployment.spec
    if spec.source.revision is not None:
        return spec.source.revision
    if assistant is None:
        return Problem(
            ASSISTANT_NOT_FOUND,
            f"spec.assistant: there is no Assistant {spec.assistant} in namespace {deployment.namespace}; "
            "create it, or pin spec.source.revision",
        )
    if assistant.status.latest_revision is not None:
        return assistant.status.latest_revision
    if assistant.spec.lifecycle is Lifecycle.DRAFT:
        return Problem(
            ASSISTANT_IS_DRAFT,
            f"spec.source.latest: Assistant {assistant.name} is a Draft and has no revision; "
            "set its spec.lifecycle to Active",
            waits=True,
        )
    stuck = assistant.status.condition(STALLED)
    if stuck is not None:
        return Problem(ASSISTANT_STALLED, f"Assistant {assistant.name} is Stalled ({stuck.reason}): {stuck.message}")
    known = assistant.status.condition(RECONCILING) or assistant.status.condition(READY)
    said = f": {known.message}" if known is not None and known.message else ""
    return Problem(WAITING_FOR_REVISION, f"Assistant {assistant.name} has no revision yet{said}", waits=True)


def wanted_of(
    deployment: AssistantDeployment,
    revision_name: str,
    revision: dict[str, Any] | None,
    environment: Environment,
    platform: PlatformConfig,
) -> Wanted | Problem:
    """What is needed to serve the revision here, or the first reason why it cannot be served."""
    place = deployment.namespace
    if revision is None:
        return Problem(
            REVISION_NOT_FOUND,
            f"spec.source: there is no AssistantRevision {revision_name} in namespace {place}; "
            "apply it there, or name another one",
        )
    check = verify_revision(revision)
    if not check.ok:
        return Problem(check.reason, f"AssistantRevision {revision_name}: {check.message}")
    spec = revision["spec"]
    if spec["assistant"] != deployment.spec.assistant:
        return Problem(
            REVISION_OF_ANOTHER_ASSISTANT,
            f"spec.source.revision: {revision_name} is a revision of Assistant {spec['assistant']}, "
            f"not of {deployment.spec.assistant}; name one of its revisions",
        )
    runtime = _runtime(deployment, platform)
    if isinstance(runtime, Problem):
        return runtime
    profile, external = runtime
    model = Model.model_validate(spec["snapshot"]["model"])
    server = model_server_spec(
        model,
        Runner.model_validate(spec["snapshot"]["runner"]),
        profile=profile,
        external_server=external,
        pool=environment.pool,
        dedicated_to=f"{place}/{deployment.name}" if deployment.spec.runtime.sharing is Sharing.DEDICATED else None,
    )
    return Wanted(revision_name, spec["digest"], model, model_server_name(model.name, server.key), server)


def _runtime(deployment: AssistantDeployment, platform: PlatformConfig) -> tuple[str | None, str | None] | Problem:
    """(profile, external server): exactly one is set. Tenants name what the platform team listed and nothing else."""
    runtime = deployment.spec.runtime
    if runtime.external_server is not None:
        if platform.external_server(runtime.external_server) is None:
            listed = ", ".join(s.name for s in platform.external_servers) or "none"
            return Problem(
                EXTERNAL_SERVER_UNKNOWN,
                f"spec.runtime.externalServer: there is no external server {runtime.external_server} "
                f"(listed: {listed}); name a listed one, or ask the platform team to add it to externalServers",
            )
        return None, runtime.external_server
    profile = runtime.profile or platform.default_profile
    if platform.profile(profile) is None:
        listed = ", ".join(p.name for p in platform.profiles)
        return Problem(
            PROFILE_NOT_ALLOWED,
            f"spec.runtime.profile: there is no profile {profile} (listed: {listed}); "
            "name a listed one, or ask the platform team to add it to profiles",
        )
    return profile, None


def model_server_object(wanted: Wanted, platform: PlatformConfig) -> dict[str, Any]:
    """The ModelServer to apply: everything in it is derived."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelServer",
        "metadata": {
            "name": wanted.server_name,
            "namespace": platform.models_namespace,
            "labels": {LABEL_MANAGED_BY: MANAGED_BY},
        },
        "spec": wanted.server.to_object(),
    }
