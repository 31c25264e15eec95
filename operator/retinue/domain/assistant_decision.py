"""Assistant: which revision its present content is, and what its conditions say.

A ConfigMap or a template is read when a revision is made. The digest of the model is looked up once per generation; it
is written into the status first and the revision is made in the next look, so that a crash in between cannot lead to
another digest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from retinue.domain.conditions import FALSE, TRUE, UNKNOWN, Finding, Problem, merge, patient, ready, working
from retinue.domain.model_name import resolve
from retinue.domain.plan import Delete, Plan
from retinue.domain.revision import (
    MADE_BY_OPERATOR,
    build_revision_object,
    build_snapshot,
    effective_model,
    needed_config_maps,
    same_content,
    verify_revision,
)
from retinue.domain.transitions import events_of
from retinue.domain.violation import Violation, summary
from retinue.resources.meta import LABEL_MADE_BY, MODEL_RESOLVED
from retinue.resources.platform import PlatformConfig
from retinue.resources.reasons import (
    ARCHIVED,
    CONFIG_MAP_NOT_FOUND,
    DIGEST_CONFLICT,
    DIGEST_GIVEN,
    DIGEST_RESOLVED,
    DRAFT,
    INACTIVE,
    MAKING_REVISION,
    MODEL_NAME_INVALID,
    MODEL_RESOLVING,
    REVISION_CREATED,
    TEMPLATE_NOT_FOUND,
)
from retinue.resources.v1alpha1.assistant import Assistant, AssistantStatus, Lifecycle, ResolvedModel
from retinue.resources.v1alpha1.assistantrevision import Provenance
from retinue.resources.v1alpha1.assistanttemplate import AssistantTemplate

Object = dict[str, Any]

CONFIG_MAP_SECONDS: Final = 60.0
"""Seconds between two reads of the ConfigMaps that an Assistant names: the operator does not watch ConfigMaps."""
LOOKUP_SECONDS: Final = 60.0
"""Seconds until a lookup that failed is tried again."""

_MISSING: Final = frozenset({TEMPLATE_NOT_FOUND, CONFIG_MAP_NOT_FOUND})
_ANY_DIGEST: Final = f"sha256:{'0' * 64}"
"""Stands in for the digest while only the rest of the content is checked."""


@dataclass(frozen=True, slots=True)
class ObservedAssistant:
    """Everything that a decision about one Assistant looks at."""

    assistant: Assistant
    platform: PlatformConfig
    template: AssistantTemplate | None = None
    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    revisions: tuple[Object, ...] = ()
    """The AssistantRevisions of this Assistant in its namespace, as they are stored."""
    referenced: frozenset[str] = frozenset()
    """Names of the revisions that any AssistantDeployment of the namespace names, in spec or status."""
    found: str | Problem | None = None
    """Digest that the registry answered in this look, or why there is none; None: it was not asked."""


def lookup_needed(observed: ObservedAssistant) -> str | None:
    """Name of the model that the registry must be asked for now, or None.

    Nothing is asked for content that could not become a revision, and never twice for one generation.
    """
    assistant = observed.assistant
    if assistant.deleting or assistant.spec.lifecycle is not Lifecycle.ACTIVE:
        return None
    if _digest(observed) is not None or isinstance(_content(observed, _ANY_DIGEST), list):
        return None
    choice = effective_model(assistant.spec, observed.template)
    if choice is None or isinstance(resolve(choice.name, observed.platform.model_registries), Violation):
        return None
    return choice.name


def decide_assistant(observed: ObservedAssistant, now: datetime) -> Plan:
    """The plan for one Assistant. Deleting one deletes no revision: production may run it."""
    assistant = observed.assistant
    if assistant.deleting:
        return Plan()
    before, generation = assistant.status, assistant.metadata.generation
    draft = _decide(observed, now)
    status = AssistantStatus(
        observed_generation=generation,
        conditions=merge(before.conditions, draft.findings, generation, now),
        latest_revision=draft.revision,
        latest_ordinal=draft.ordinal,
        model=draft.model,
    )
    looks = [draft.requeue] if draft.requeue is not None else []
    if assistant.spec.lifecycle is Lifecycle.ACTIVE and needed_config_maps(assistant.spec, observed.template):
        looks.append(CONFIG_MAP_SECONDS)
    return Plan(
        apply=draft.apply,
        delete=_collected(observed, draft.revision),
        status=status.to_object(),
        events=events_of(before.conditions, draft.findings),
        requeue_after=min(looks) if looks else None,
    )


@dataclass(frozen=True, slots=True)
class _Draft:
    """The outcome before it is written down."""

    findings: tuple[Finding, ...]
    revision: str | None
    ordinal: int | None
    model: ResolvedModel | None
    apply: tuple[Object, ...] = ()
    requeue: float | None = None


def _decide(observed: ObservedAssistant, now: datetime) -> _Draft:
    assistant = observed.assistant
    before, generation = assistant.status, assistant.metadata.generation
    keep = _Draft((), before.latest_revision, _ordinal(observed, before.latest_revision), before.model)
    lifecycle = assistant.spec.lifecycle
    if lifecycle is not Lifecycle.ACTIVE:
        return replace(keep, findings=_resting(lifecycle, before))
    problem = _preflight(observed)
    if problem is not None:
        wait = None
        if problem.reason in _MISSING:
            problem, wait = patient(problem, before.conditions, generation, now)
        unknown = Finding(MODEL_RESOLVED, UNKNOWN, problem.reason, "the content must be right first")
        return replace(keep, findings=(*problem.findings(), unknown), requeue=wait)
    choice = effective_model(assistant.spec, observed.template)
    known = _digest(observed)
    if choice is None or known is None:
        return _resolving(observed, keep, choice.name if choice is not None else "")
    how = DIGEST_GIVEN if choice.digest is not None else DIGEST_RESOLVED
    model = ResolvedModel(name=choice.name, digest=known, generation=generation)
    resolved = Finding(MODEL_RESOLVED, TRUE, how, f"{choice.name} is {known}")
    return _revised(observed, replace(keep, model=model), known, resolved)


def _resting(lifecycle: Lifecycle, before: AssistantStatus) -> tuple[Finding, ...]:
    """Nothing is made: the Assistant does what its spec says."""
    reason, said = {
        Lifecycle.DRAFT: (DRAFT, "no revision is made until spec.lifecycle is Active"),
        Lifecycle.INACTIVE: (
            INACTIVE,
            "no revision is made and deployments of `latest` serve nothing until it is Active again",
        ),
        Lifecycle.ARCHIVED: (ARCHIVED, "no revision is ever made again and deployments of `latest` serve nothing"),
    }[lifecycle]
    known = before.condition(MODEL_RESOLVED)
    resolved = (
        Finding(MODEL_RESOLVED, known.status, known.reason, known.message)
        if known is not None
        else Finding(MODEL_RESOLVED, UNKNOWN, reason)
    )
    return (*ready(reason, said), resolved)


def _content(observed: ObservedAssistant, digest: str) -> Object | list[Violation]:
    return build_snapshot(observed.assistant.spec, observed.template, observed.config_maps, digest)


def _preflight(observed: ObservedAssistant) -> Problem | None:
    """What is wrong with everything except the digest of the model."""
    content = _content(observed, _ANY_DIGEST)
    if isinstance(content, list):
        return Problem(content[0].reason, summary(content))
    choice = effective_model(observed.assistant.spec, observed.template)
    if choice is not None:
        where = resolve(choice.name, observed.platform.model_registries)
        if isinstance(where, Violation) and (choice.digest is None or where.reason != MODEL_NAME_INVALID):
            return Problem(where.reason, str(where))
    return None


def _digest(observed: ObservedAssistant) -> str | None:
    """The digest that is given, or that was recorded for this generation."""
    choice = effective_model(observed.assistant.spec, observed.template)
    if choice is None:
        return None
    if choice.digest is not None:
        return choice.digest
    recorded = observed.assistant.status.model
    if recorded is None or recorded.name != choice.name:
        return None
    return recorded.digest if recorded.generation == observed.assistant.metadata.generation else None


def _resolving(observed: ObservedAssistant, keep: _Draft, name: str) -> _Draft:
    """The registry was asked, or will be: its answer is written down before anything is made of it."""
    found = observed.found
    if isinstance(found, Problem):
        findings = (*found.findings(), Finding(MODEL_RESOLVED, FALSE, found.reason, found.message))
        return replace(keep, findings=findings, requeue=LOOKUP_SECONDS)
    if found is None:
        findings = (
            *working(MODEL_RESOLVING, f"asking the registry for {name}"),
            Finding(MODEL_RESOLVED, UNKNOWN, MODEL_RESOLVING),
        )
        return replace(keep, findings=findings, requeue=1.0)
    findings = (
        *working(MAKING_REVISION, f"{name} is {found}"),
        Finding(MODEL_RESOLVED, TRUE, DIGEST_RESOLVED, f"{name} is {found}"),
    )
    recorded = ResolvedModel(name=name, digest=found, generation=observed.assistant.metadata.generation)
    return replace(keep, findings=findings, model=recorded)


def _revised(observed: ObservedAssistant, keep: _Draft, digest: str, resolved: Finding) -> _Draft:
    """The content is complete: its revision exists, is made now, or is refused."""
    assistant = observed.assistant
    content = _content(observed, digest)
    if isinstance(content, list):
        problem = Problem(content[0].reason, summary(content))
        return replace(keep, findings=(*problem.findings(), resolved))
    reference = assistant.spec.template_ref
    wanted = build_revision_object(
        assistant.name,
        assistant.namespace,
        content,
        Provenance(generation=assistant.metadata.generation, template=reference.name if reference else None),
    )
    name = wanted["metadata"]["name"]
    stored = next((r for r in observed.revisions if r["metadata"]["name"] == name), None)
    if stored is None:
        findings = (*ready(REVISION_CREATED, name), resolved)
        return replace(keep, findings=findings, revision=name, ordinal=None, apply=(wanted,))
    if not same_content(stored, wanted["spec"]["digest"]):
        problem = Problem(
            DIGEST_CONFLICT,
            f"AssistantRevision {name} exists with other content (spec.digest differs); "
            "delete it if nothing names it, or change the content by a word",
        )
        return replace(keep, findings=(*problem.findings(), resolved))
    check = verify_revision(stored)
    if not check.ok:
        problem = Problem(check.reason, f"AssistantRevision {name}: {check.message}")
        return replace(keep, findings=(*problem.findings(), resolved))
    ordinal = _ordinal(observed, name)
    findings = (*ready(REVISION_CREATED, f"r{ordinal} ({name})" if ordinal is not None else name), resolved)
    return replace(keep, findings=findings, revision=name, ordinal=ordinal)


def _ordinal(observed: ObservedAssistant, name: str | None) -> int | None:
    """The number that the revision's own reconcile gave it; from our own status where the object is gone."""
    stored = next((r for r in observed.revisions if r["metadata"]["name"] == name), None)
    if stored is not None:
        number = (stored.get("status") or {}).get("ordinal")
        return int(number) if number is not None else None
    before = observed.assistant.status
    return before.latest_ordinal if name is not None and name == before.latest_revision else None


def _collected(observed: ObservedAssistant, latest: str | None) -> tuple[Delete, ...]:
    """Revisions that the operator made, beyond the limit, which nothing names any more."""
    made = [
        r
        for r in observed.revisions
        if (r["metadata"].get("labels") or {}).get(LABEL_MADE_BY) == MADE_BY_OPERATOR
        and "deletionTimestamp" not in r["metadata"]
    ]
    made.sort(key=_age, reverse=True)
    beyond = made[observed.assistant.spec.revision_history_limit :]
    return tuple(
        Delete("AssistantRevision", m["name"], m["namespace"], m["uid"], m["resourceVersion"])
        for m in (r["metadata"] for r in beyond)
        if m["name"] != latest and m["name"] not in observed.referenced
    )


def _age(revision: Object) -> tuple[float, str, str]:
    """Oldest first: by ordinal; a revision without one is the newest."""
    metadata = revision["metadata"]
    ordinal = (revision.get("status") or {}).get("ordinal")
    return (
        float("inf") if ordinal is None else float(ordinal),
        metadata.get("creationTimestamp") or "",
        metadata["name"],
    )
