"""ModelServer of an Ollama server outside of retinue: no pods, the operator checks the server itself."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from retinue.domain.conditions import FALSE, TRUE, UNKNOWN, Finding, Problem, merge, ready
from retinue.domain.model_status import Demand, users_of
from retinue.domain.modelserver_decision import removal, unused_since, wanted_replicas
from retinue.domain.plan import Plan
from retinue.domain.transitions import events_of
from retinue.resources.meta import MODEL_MATCHED, MODEL_PRESENT, WARM
from retinue.resources.platform import ExternalServer, PlatformConfig
from retinue.resources.reasons import (
    ASKING,
    DIGEST_DIFFERS,
    DIGEST_MATCHES,
    EXTERNAL_SERVER_READY,
    EXTERNAL_SERVER_UNKNOWN,
    EXTERNAL_SERVER_UNREACHABLE,
    LOADED,
    MODEL_UNKNOWN,
    NOT_LOADED,
    NOT_ON_DISK,
    NOT_PRESENT_YET,
    NOT_REACHABLE,
    ON_DISK,
    WARMING,
)
from retinue.resources.v1alpha1.content import Model
from retinue.resources.v1alpha1.modelserver import ModelServer, ModelServerStatus

RETRY_SECONDS: Final = 5.0
"""Seconds until the next look at a server that has not been asked yet."""


@dataclass(frozen=True, slots=True)
class ExternalView:
    """What the operator found out about an external server."""

    reachable: bool
    error: str = ""
    """Why it is not reachable."""
    digest: str = ""
    """Digest of the model of that name on its disk, or empty."""
    token_error: tuple[str, str] | None = None
    """(reason, message) of the one-token generation that failed; None: it went well or was not tried."""
    warm: bool = False
    """The model has produced a token, now or at an earlier look since which the server has been well."""


@dataclass(frozen=True, slots=True)
class ObservedExternal:
    """Everything that a decision about an external ModelServer looks at."""

    server: ModelServer
    platform: PlatformConfig
    demands: tuple[Demand, ...]
    view: ExternalView | None
    """None: not asked yet since the start of the operator."""


def decide_external(observed: ObservedExternal, now: datetime) -> Plan:
    """The plan for a ModelServer with `spec.externalServer`: a status, and its own removal when nobody uses it."""
    server = observed.server
    if server.deleting:
        return Plan()
    unused = unused_since(server, observed.demands, now)
    gone = removal(server, unused, observed.platform, now)
    if gone is not None:
        return gone
    if observed.view is None and listed(observed) is not None and server.status.observed_generation >= 0:
        # Just started: what was written stays true until the server has been asked again.
        return Plan(requeue_after=RETRY_SECONDS)
    before, generation = server.status, server.metadata.generation
    wanted = wanted_replicas(server, observed.demands)
    problem = _problem(observed)
    # A server of somebody else counts as as many pods as are wanted of it.
    serving = wanted if problem is None else 0
    main = ready(EXTERNAL_SERVER_READY, _serves(observed)) if problem is None else problem.findings()
    findings = (*main, *_model_findings(observed))
    status = ModelServerStatus(
        observed_generation=generation,
        conditions=merge(before.conditions, findings, generation, now),
        desired_replicas=wanted,
        replicas=serving,
        ready_replicas=serving,
        users=users_of(observed.demands),
        user_count=len(observed.demands),
        unused_since=unused,
    )
    left = None
    if unused is not None:
        left = max(1.0, (unused + timedelta(seconds=observed.platform.unused_seconds) - now).total_seconds())
    return Plan(status=status.to_object(), events=events_of(before.conditions, findings), requeue_after=left)


def listed(observed: ObservedExternal) -> ExternalServer | None:
    """The entry of the platform file."""
    return observed.platform.external_server(observed.server.spec.external_server or "")


def _serves(observed: ObservedExternal) -> str:
    return f"external server {observed.server.spec.external_server} serves {observed.server.spec.model.name}"


def _problem(observed: ObservedExternal) -> Problem | None:
    name, view, model = observed.server.spec.external_server, observed.view, observed.server.spec.model
    if listed(observed) is None:
        names = ", ".join(s.name for s in observed.platform.external_servers) or "none"
        return Problem(
            EXTERNAL_SERVER_UNKNOWN,
            f"spec.externalServer: external server {name} is not listed any more (listed: {names}); "
            "move the deployments with spec.runtime.externalServer, or list it again in externalServers",
        )
    if view is None:
        return Problem(ASKING, f"external server {name} is being asked", waits=True)
    if not view.reachable:
        return Problem(
            EXTERNAL_SERVER_UNREACHABLE,
            f"external server {name} does not answer ({view.error}); start it, or correct its url in externalServers",
            waits=True,
        )
    if not view.digest:
        return Problem(
            MODEL_UNKNOWN,
            f"external server {name} has no model {model.name}; run `ollama pull {model.name}` there",
        )
    if view.digest != model.digest:
        return Problem(
            DIGEST_DIFFERS,
            f"model {model.name} on external server {name} is {view.digest}, the revision wants {model.digest}; "
            "pull the wanted model there, or make a new revision",
        )
    if view.token_error is not None:
        reason, message = view.token_error
        return Problem(reason, f"external server {name} gave no token of {model.name}: {message}", waits=True)
    if not view.warm:
        return Problem(WARMING, f"external server {name} loads {model.name}", waits=True)
    return None


def _model_findings(observed: ObservedExternal) -> tuple[Finding, ...]:
    view, model = observed.view, observed.server.spec.model
    if view is None or not view.reachable:
        return tuple(Finding(kind, UNKNOWN, NOT_REACHABLE) for kind in (MODEL_PRESENT, MODEL_MATCHED, WARM))
    return (
        Finding(MODEL_PRESENT, TRUE, ON_DISK) if view.digest else Finding(MODEL_PRESENT, FALSE, NOT_ON_DISK),
        _matched(view, model),
        Finding(WARM, TRUE, LOADED) if view.warm else Finding(WARM, FALSE, NOT_LOADED),
    )


def _matched(view: ExternalView, model: Model) -> Finding:
    if not view.digest:
        return Finding(MODEL_MATCHED, UNKNOWN, NOT_PRESENT_YET)
    if view.digest == model.digest:
        return Finding(MODEL_MATCHED, TRUE, DIGEST_MATCHES)
    return Finding(MODEL_MATCHED, FALSE, DIGEST_DIFFERS, f"found {view.digest}")
