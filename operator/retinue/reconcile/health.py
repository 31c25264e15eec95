"""Looks at every model pod in turn, remembers the newest answer, and writes health rows.

Runs beside the reconcilers and never makes one wait: they read `newest`, and are called when an answer changes. A
pod's looks are shifted by a hash of its UID, so that a fleet is probed evenly over the period.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import aiohttp
import structlog

from retinue.domain.health import (
    GENERATE,
    STATUS,
    UNREACHABLE,
    PodState,
    Target,
    phase_offset,
    picture,
    slot,
    targets,
    unix,
)
from retinue.domain.records import PodHealth, Row
from retinue.kube.cache import Cache
from retinue.ollama.agent_client import AgentStatus
from retinue.ollama.client import OllamaClient
from retinue.ollama.errors import OllamaBusy, OllamaError
from retinue.ollama.replies import OneToken
from retinue.reconcile.deployment_health import DeploymentWatch
from retinue.reconcile.external_probe import external_status
from retinue.reconcile.sample_id import sample_id
from retinue.resources.platform import PlatformConfig

SETTLE_SECONDS: Final = 2.0
"""Seconds between two looks at a pod that is not Ready: its pull and its load are news."""
TICK_SECONDS: Final = 1.0
_log = structlog.get_logger(__name__)


class Agents(Protocol):
    """What is asked of model pods; `retinue.ollama.agent_client.AgentClient` does it."""

    async def status(self, base_url: str) -> AgentStatus:
        """Raises OllamaError."""
        ...

    async def generate_one(
        self, base_url: str, model: str, constants: dict[str, Any], *, seconds: float = 60.0
    ) -> OneToken:
        """Raises OllamaError; OllamaBusy if the pod has no room."""
        ...


class Rows(Protocol):
    """Where rows go; `retinue.store.writer.RowWriter` does it."""

    def put(self, row: Row, *, transition: bool = False) -> None:
        """Take a row, at once."""
        ...


@dataclass(frozen=True, slots=True)
class Probe:
    """The newest that is known of one pod or external server."""

    at: datetime
    """When it last answered, or did not."""
    report: AgentStatus | None
    """What it said; None: it did not answer."""
    reason: str
    """Why it is not Ready, empty if it is: the agent's reason or phase, or why it did not answer."""
    message: str
    latency_ms: float
    token_ok: bool | None
    """Outcome of the newest one-token generation; None: none yet."""
    token_error: tuple[str, str] | None = None
    """(reason, message) of the newest one-token generation if it failed."""

    @property
    def reachable(self) -> bool:
        """It answered."""
        return self.report is not None

    @property
    def ok(self) -> bool:
        """It is Ready, and did not fail to produce its last token."""
        return self.report is not None and self.report.ready and self.token_ok is not False

    def state(self) -> PodState:
        """What a deployment's health needs of it."""
        reason = self.reason or (self.token_error[0] if self.token_error else "")
        return PodState(self.ok, "" if self.ok else reason, self.latency_ms)


@dataclass(slots=True)
class _Watched:
    target: Target
    due: float
    generate_due: float
    row_slot: int | None = None
    look: asyncio.Task[None] | None = None
    generation: asyncio.Task[None] | None = None
    probe: Probe | None = None
    rows: dict[str, tuple[bool, str, str]] = field(default_factory=dict)
    """Last written (ok, phase, reason) per probe."""


class HealthProber:
    """One per active operator. `run` until cancelled; everything on one event loop."""

    def __init__(
        self,
        *,
        cache: Cache,
        platform: Callable[[], PlatformConfig],
        agents: Agents,
        session: aiohttp.ClientSession,
        rows: Rows,
        on_change: Callable[[str, str], None],
        concurrency: int = 32,
        generations: int = 4,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`on_change(namespace, name)` is told of the ModelServer one of whose pods changed; it must only enqueue.

        `session` is for external servers, which get no credential. `concurrency` bounds looks, `generations` one-token
        generations that run at once.
        """
        self._cache = cache
        self._platform = platform
        self._agents = agents
        self._session = session
        self._rows = rows
        self._on_change = on_change
        self._looks = asyncio.Semaphore(concurrency)
        self._generations = asyncio.Semaphore(generations)
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._watched: dict[str, _Watched] = {}
        self._deployments = DeploymentWatch(rows.put)

    def newest(self, uid: str) -> Probe | None:
        """The newest of a pod by its UID, of an external server by the UID of its ModelServer. Never waits."""
        watched = self._watched.get(uid)
        return watched.probe if watched else None

    async def run(self) -> None:
        """Look and look again until cancelled; then nothing is left running."""
        try:
            while True:
                self.tick()
                await self._sleep(TICK_SECONDS)
        finally:
            running = self._tasks()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            self._watched.clear()
            self._deployments = DeploymentWatch(self._rows.put)

    def tick(self) -> None:
        """Begin what is due now, and write the rows of deployments that are due or have changed."""
        now = self._now()
        platform = self._platform()
        found = {t.uid: t for t in targets(self._cache.list("ModelServer"), self._cache.list("Pod"), platform)}
        for uid in self._watched.keys() - found.keys():
            gone = self._watched.pop(uid)
            for task in (gone.look, gone.generation):
                if task is not None:
                    task.cancel()
        for uid, target in found.items():
            self._begin(uid, target, unix(now))
        self._deployments.look(self._cache, found.values(), self._states(), platform.health.row_seconds, now)

    async def idle(self) -> None:
        """Wait until nothing that `tick` began is running."""
        while running := self._tasks():
            await asyncio.gather(*running, return_exceptions=True)

    def _tasks(self) -> list[asyncio.Task[None]]:
        tasks = (task for w in self._watched.values() for task in (w.look, w.generation))
        return [task for task in tasks if task is not None and not task.done()]

    def _states(self) -> dict[str, PodState]:
        return {uid: w.probe.state() for uid, w in self._watched.items() if w.probe is not None}

    def _begin(self, uid: str, target: Target, now: float) -> None:
        health = self._platform().health
        watched = self._watched.get(uid)
        if watched is None:
            # A new pod is looked at soon, a fleet after a restart not all at once. An external server proves itself
            # with a token at once, a pod has done so before it got Ready.
            soon = now + phase_offset(uid, min(SETTLE_SECONDS, health.probe_seconds))
            first = now if target.external else now + phase_offset(uid, health.generate_seconds)
            watched = self._watched[uid] = _Watched(target, soon, first)
        watched.target = target
        if now >= watched.due and (watched.look is None or watched.look.done()):
            watched.look = asyncio.create_task(self._look(watched), name=f"look-{target.name}")

    async def _look(self, watched: _Watched) -> None:
        target = watched.target
        async with self._looks:
            started = self._monotonic()
            report, reason, message = await self._ask(target)
            latency = max(0.0, (self._monotonic() - started) * 1000)
        now = self._now()
        before = watched.probe
        watched.probe = Probe(
            at=now,
            report=report,
            reason=reason,
            message=message,
            latency_ms=latency,
            token_ok=before.token_ok if before else None,
            token_error=before.token_error if before else None,
        )
        self._write(watched, STATUS, latency, None)
        ready = report is not None and report.ready
        watched.due = self._next_look(target.uid, unix(now), ready=ready)
        self._tell(watched, before)
        if report is not None and ready and report.in_flight == 0 and report.queued == 0:
            self._maybe_generate(watched, unix(now))

    async def _ask(self, target: Target) -> tuple[AgentStatus | None, str, str]:
        try:
            if target.external:
                report = await external_status(OllamaClient(self._session, target.base_url), target)
            else:
                report = await self._agents.status(target.base_url)
        except OllamaError as error:
            return None, error.reason, str(error)
        except Exception as error:  # noqa: BLE001
            # A bug must not end the looks at this pod: it shows as a pod that does not answer, and in the log.
            _log.exception("probe failed", pod=target.name)
            return None, type(error).__name__, "the probe itself failed: see the operator's log"
        return report, "" if report.ready else report.reason or report.phase, report.message

    def _next_look(self, uid: str, now: float, *, ready: bool) -> float:
        period = self._platform().health.probe_seconds
        offset = phase_offset(uid, period)
        regular = (slot(now, period, offset) + 1) * period + offset
        return regular if ready else min(regular, now + SETTLE_SECONDS)

    def _maybe_generate(self, watched: _Watched, now: float) -> None:
        if now < watched.generate_due or (watched.generation is not None and not watched.generation.done()):
            return
        watched.generation = asyncio.create_task(self._generate(watched), name=f"token-{watched.target.name}")

    async def _generate(self, watched: _Watched) -> None:
        target = watched.target
        async with self._generations:
            started = self._monotonic()
            try:
                token, error = await self._one_token(target), None
            except OllamaBusy:
                return
            except OllamaError as failure:
                token, error = None, (failure.reason, str(failure))
            latency = max(0.0, (self._monotonic() - started) * 1000)
        before = watched.probe
        if before is None:
            return
        watched.probe = Probe(
            at=before.at,
            report=before.report,
            reason=before.reason,
            message=before.message,
            latency_ms=before.latency_ms,
            token_ok=token is not None,
            token_error=error,
        )
        if token is not None:
            # After a failure the next look at an idle pod tries again.
            watched.generate_due = unix(self._now()) + self._platform().health.generate_seconds
        self._write(watched, GENERATE, latency, token)
        self._tell(watched, before)

    async def _one_token(self, target: Target) -> OneToken:
        constants = dict(target.constants)
        if target.external:
            client = OllamaClient(self._session, target.base_url)
            return await client.generate_one(target.model, constants, seconds=60.0)
        return await self._agents.generate_one(target.base_url, target.model, constants)

    def _tell(self, watched: _Watched, before: Probe | None) -> None:
        """Call the ModelServer's reconciler, but only with news."""
        after = watched.probe
        if before is None or after is None or _news(before) != _news(after):
            self._on_change(watched.target.namespace, watched.target.model_server)

    def _write(self, watched: _Watched, probe: str, latency_ms: float, token: OneToken | None) -> None:
        """One row per period, and one more whenever the answer changed in between."""
        target, newest = watched.target, watched.probe
        if newest is None:
            return
        report, now = newest.report, self._now()
        period = self._platform().health.probe_seconds
        number = slot(unix(now), period, phase_offset(target.uid, period))
        phase = report.phase if report is not None else UNREACHABLE
        if probe == STATUS:
            ok, reason = report is not None and report.ready, newest.reason
        else:
            ok, reason = newest.token_ok is True, newest.token_error[0] if newest.token_error else ""
        said, last = (ok, phase, reason), watched.rows.get(probe)
        changed = last is not None and last != said
        if probe == STATUS:
            if watched.row_slot == number and not changed:
                return
            watched.row_slot = number
        watched.rows[probe] = said
        self._rows.put(
            PodHealth(
                sample_id=sample_id(target.uid, probe, f"change:{now.isoformat()}" if changed else str(number)),
                at=now,
                model_server=target.model_server,
                namespace=target.namespace,
                pod=target.name,
                pod_uid=target.uid,
                model=target.model,
                model_digest=report.digest if report is not None else "",
                probe=probe,
                ok=ok,
                phase=phase,
                reason=reason,
                latency_ms=latency_ms,
                in_flight=report.in_flight if report is not None else None,
                queued=report.queued if report is not None else None,
                tokens_per_second=token.tokens_per_second if token is not None else None,
                vram_bytes=report.vram_bytes if report is not None else None,
                processor=report.processor if report is not None else None,
            ),
            transition=changed,
        )


def _news(probe: Probe) -> tuple[object, ...]:
    seen = picture(probe.report) if probe.report is not None else None
    return (seen, probe.reason, probe.token_ok, probe.token_error[0] if probe.token_error else None)
