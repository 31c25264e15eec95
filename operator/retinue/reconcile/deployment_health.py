"""Writes the health of every AssistantDeployment: when it changes, and once per period while it does not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from retinue.domain.health import (
    DeploymentFacts,
    DeploymentState,
    PodState,
    Target,
    derive,
    facts_of,
    phase_offset,
    slot,
    unix,
    worst_latency,
)
from retinue.domain.records import DeploymentHealth, Row
from retinue.kube.cache import Cache
from retinue.reconcile.sample_id import sample_id

PROBE: Final = "deployment"
"""Third part of the identity of a deployment's rows."""


class Put(Protocol):
    """Where rows go."""

    def __call__(self, row: Row, *, transition: bool = False) -> None:
        """Take a row, at once."""
        ...


@dataclass(slots=True)
class _Last:
    state: DeploymentState
    slot: int


class DeploymentWatch:
    """Remembers what was last written of each deployment."""

    def __init__(self, put: Put) -> None:
        self._put = put
        self._last: dict[str, _Last] = {}

    def look(
        self,
        cache: Cache,
        found: Iterable[Target],
        states: Mapping[str, PodState],
        row_seconds: float,
        now: datetime,
    ) -> None:
        """Write the rows that are due. A deployment whose pods have not all been asked yet waits for the answer."""
        by_server: dict[str, list[PodState | None]] = {}
        for target in found:
            by_server.setdefault(target.model_server, []).append(states.get(target.uid))
        seen: set[str] = set()
        for deployment in cache.list("AssistantDeployment"):
            name = (deployment.get("status") or {}).get("activeRevision") or ""
            namespace = deployment["metadata"]["namespace"]
            facts = facts_of(deployment, cache.get("AssistantRevision", namespace, name) if name else None)
            if facts is None:
                continue
            seen.add(facts.uid)
            pods = by_server.get(facts.model_server, [])
            asked = [pod for pod in pods if pod is not None]
            if len(asked) == len(pods):
                self._judge(facts, asked, row_seconds, now)
        for uid in self._last.keys() - seen:
            del self._last[uid]

    def _judge(self, facts: DeploymentFacts, pods: list[PodState], row_seconds: float, now: datetime) -> None:
        state = derive(facts, pods)
        number = slot(unix(now), row_seconds, phase_offset(facts.uid, row_seconds))
        last = self._last.get(facts.uid)
        changed = last is not None and last.state != state
        if last is not None and not changed and last.slot == number:
            return
        self._last[facts.uid] = _Last(state, number)
        self._put(
            DeploymentHealth(
                sample_id=sample_id(facts.uid, PROBE, f"change:{now.isoformat()}" if changed else str(number)),
                at=now,
                namespace=facts.namespace,
                deployment=facts.name,
                deployment_uid=facts.uid,
                environment=facts.environment,
                assistant=facts.assistant,
                revision=state.revision,
                revision_digest=facts.revision_digest,
                model=facts.model,
                model_digest=facts.model_digest,
                model_server=state.model_server,
                ready=state.ready,
                reason=state.reason,
                wanted_replicas=state.wanted_replicas,
                ready_replicas=state.ready_replicas,
                pods_ok=state.pods_ok,
                latency_ms=worst_latency(pods),
            ),
            transition=changed,
        )
