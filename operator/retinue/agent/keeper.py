"""The loop that brings Ollama to serving the wanted model and keeps it there: look, decide, act, look again.

It needs nothing but Ollama on loopback (and the registry while the model is not on disk), so a pod comes back after
any restart with the operator and the API server away.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final

import structlog

from retinue.agent.decide import ADVISED_VERSION, Action, Facts, Phase, Step, Wants, backoff, decide, explain
from retinue.agent.settings import AgentConfig
from retinue.agent.state import LastToken, Pull, ServerState, now
from retinue.ollama.client import SHORT_SECONDS, OllamaClient
from retinue.ollama.errors import (
    LoadFailed,
    OllamaError,
    OllamaTimedOut,
    OllamaUnreachable,
    PullFailed,
)
from retinue.ollama.names import canonical, parse_version, same_digest
from retinue.ollama.replies import PullProgress

TOLERATED_TIMEOUTS: Final = 3
"""Looks in a row that a busy, serving Ollama may leave unanswered before the pod stops being ready."""

FULL_LOOK_SECONDS: Final = 60.0
"""How old the knowledge of version and disk may be while the pod serves."""
COSTLY: Final = frozenset({"DiskFull"})
"""Failures after which a new try downloads everything again for nothing: ten times the wait."""

_log = structlog.get_logger("retinue.agent")


class TagMoved(OllamaError):
    """The registry now gives another model under the name: it is never served."""

    reason: ClassVar[str] = "TagMoved"


class OllamaHung(OllamaError):
    """Ollama accepts requests and answers none."""

    reason: ClassVar[str] = "OllamaHung"


class Keeper:
    """Owns the phase of the pod. `run` never ends by itself; `step` is one turn of it."""

    def __init__(self, config: AgentConfig, client: OllamaClient, state: ServerState) -> None:
        self._config = config
        self._client = client
        self._state = state
        self._wants = Wants(config.model, config.digest, config.pull_name)
        self._warm = False
        self._known = Facts()
        self._known_at = 0.0
        self._suspected = False
        self._timeouts = 0
        self._silent_since: float | None = None
        self._last_action = Action.WAIT
        self._failures = 0
        self._failed_reason = ""
        self._failed_action = Action.WAIT
        self._farthest = 0
        self._warned_version = ""
        self._wake = asyncio.Event()
        self._acts: dict[Action, Callable[[Step], Awaitable[None]]] = {
            Action.PULL: self._pull,
            Action.COPY: self._copy,
            Action.DELETE: self._delete,
            Action.PRELOAD: self._preload,
            Action.GENERATE: self._generate,
        }

    def look_now(self) -> None:
        """A request lost its connection to Ollama: look before the next poll is due."""
        self._wake.set()

    def suspect(self) -> None:
        """No request got a byte for long: ask for one token before more requests are sent here."""
        self._suspected = True
        self._warm = False
        self._wake.set()

    async def run(self) -> None:
        """Keep at it until cancelled."""
        while True:
            try:
                wait = await self.step()
            except Exception as error:  # noqa: BLE001 (a defect here must not end the pod's only keeper)
                _log.error("keeper.defect", exc_info=error)
                wait = self._config.retry_seconds
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), wait)
            self._wake.clear()

    async def step(self) -> float:
        """Look, decide, act once; returns the seconds until the next turn."""
        try:
            facts = await self._look()
        except OllamaTimedOut as error:
            return self._silent(error)
        except OllamaUnreachable as error:
            return self._lost(str(error))
        except OllamaError as error:
            return self._failed(error, Action.WAIT)
        self._timeouts, self._silent_since = 0, None
        step = decide(self._wants, facts, warm=self._warm, disk_was_full=self._failed_reason == "DiskFull")
        last, self._last_action = self._last_action, step.action
        if step.action is Action.SERVE:
            self._enter(step)
            self._failures, self._failed_reason, self._farthest = 0, "", 0
            return self._config.poll_seconds
        if step.action is Action.REFUSE:
            self._enter(step)
            return self._config.retry_max_seconds
        # A repeated action keeps showing why it failed before, until it gets somewhere.
        if not (self._failures and step.action is self._failed_action):
            self._enter(step)
        try:
            await self._acts[step.action](step)
        except OllamaUnreachable as error:
            return self._lost(str(error))
        except OllamaError as error:
            return self._failed(error, step.action)
        self._failures = 0
        # An action that says it worked and changes nothing must not spin.
        return self._config.retry_seconds if step.action is last else 0

    async def _look(self) -> Facts:
        state, known = self._state, self._known
        seconds = min(SHORT_SECONDS, self._config.hung_seconds)
        if state.serving and time.monotonic() - self._known_at < FULL_LOOK_SECONDS:
            # Ollama writes a log line per request, so a pod that serves is asked for what can change only.
            version, stored = known.version, known.stored
        else:
            version = await self._client.version(seconds=seconds)
            stored = {canonical(m.name): m.digest for m in await self._client.tags(seconds=seconds)}
            self._known_at = time.monotonic()
        facts = self._known = Facts(
            version=version, stored=stored, loaded=tuple(await self._client.ps(seconds=seconds))
        )
        state.version = version
        state.digest = facts.digest_of(self._config.model) or facts.digest_of(self._config.pull_name)
        state.loaded = facts.loaded_as(self._config.digest)
        if state.loaded is None:
            self._warm = False
        if parse_version(version) < ADVISED_VERSION and version != self._warned_version:
            self._warned_version = version
            _log.warning("ollama.old", version=version, advised=".".join(map(str, ADVISED_VERSION)))
        return facts

    def _enter(self, step: Step) -> None:
        state = self._state
        if state.phase is not step.phase or state.reason != step.reason:
            log = _log.warning if step.phase is Phase.FAILED else _log.info
            log("phase", phase=step.phase.value, reason=step.reason, message=step.message, model=state.model)
        state.phase, state.reason, state.message = step.phase, step.reason, step.message

    def _silent(self, error: OllamaTimedOut) -> float:
        self._timeouts += 1
        if self._state.serving and not self._suspected and self._timeouts < TOLERATED_TIMEOUTS:
            return self._config.poll_seconds
        self._silent_since = self._silent_since or time.monotonic()
        if time.monotonic() - self._silent_since < self._config.hung_seconds:
            return self._lost(str(error))
        self._state.hung = True
        return self._failed(OllamaHung(str(error)), Action.WAIT)

    def _lost(self, message: str) -> float:
        self._warm = False
        self._state.loaded = None
        self._state.hung = False
        self._enter(Step(Phase.STARTING, Action.WAIT, OllamaUnreachable.reason, message))
        return min(self._config.retry_seconds, self._config.poll_seconds)

    def _failed(self, error: OllamaError, action: Action) -> float:
        reason = error.reason
        self._failures = self._failures + 1 if reason == self._failed_reason else 1
        self._failed_reason, self._failed_action = reason, action
        config = self._config
        factor = 10 if reason in COSTLY else 1
        wait = backoff(self._failures, config.retry_seconds * factor, config.retry_max_seconds * factor)
        self._enter(Step(Phase.FAILED, Action.WAIT, reason, explain(reason, str(error))))
        return wait * random.uniform(0.8, 1.2)  # noqa: S311 (spreads the pods of one outage, no secret)

    async def _pull(self, step: Step) -> None:
        config, state = self._config, self._state
        state.pull = Pull(0, 0, now())
        try:
            async with asyncio.timeout(config.pull_seconds):
                lines = self._client.pull(
                    config.pull_name, insecure=config.insecure, stall_seconds=config.stall_seconds
                )
                async with contextlib.aclosing(lines):
                    async for progress in lines:
                        self._progress(state.pull, progress)
        except TimeoutError:
            raise PullFailed(f"{config.pull_name} was not complete after {config.pull_seconds:.0f} s") from None
        finally:
            state.pull = None
        found = await self._client.digest_of(config.pull_name)
        if not same_digest(found, config.digest):
            state.digest = found
            raise TagMoved(f"{config.pull_name} is {found or 'absent'} now, wanted is {config.digest}")
        state.digest = found

    def _progress(self, pull: Pull, progress: PullProgress) -> None:
        pull.completed_bytes, pull.total_bytes = progress.completed_bytes, progress.total_bytes
        if progress.completed_bytes > self._farthest:
            # Farther than any try before: no repetition of the last failure, so its wait starts anew as well.
            self._farthest = progress.completed_bytes
            self._failures = 0
            if progress.downloading:
                self._enter(Step(Phase.PULLING, Action.PULL, message=f"pulling {self._config.pull_name}"))
        if not progress.downloading and self._state.phase is Phase.PULLING:
            self._enter(Step(Phase.VERIFYING, Action.PULL, message=f"checking {self._config.pull_name}"))

    async def _copy(self, step: Step) -> None:
        await self._client.copy(self._config.pull_name, self._config.model)

    async def _delete(self, step: Step) -> None:
        await self._client.delete(step.target)

    async def _preload(self, step: Step) -> None:
        config = self._config
        try:
            await self._client.preload(config.model, config.constants, seconds=config.load_seconds)
        except OllamaUnreachable:
            raise LoadFailed(f"Ollama went away while it loaded {config.model}: was it out of memory?") from None
        except OllamaTimedOut:
            raise LoadFailed(f"{config.model} was not in memory after {config.load_seconds:.0f} s") from None

    async def _generate(self, step: Step) -> None:
        config, state = self._config, self._state
        try:
            token = await self._client.generate_one(config.model, config.constants, seconds=config.hung_seconds)
        except OllamaTimedOut as error:
            state.hung = True
            raise OllamaHung(str(error)) from None
        state.hung = False
        state.last_token = LastToken(now(), token.tokens_per_second, token.latency_ms)
        self._warm, self._suspected = True, False
