"""What is written down about one request: metrics, a usage row, a line of log. Never its content."""

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from retinue.domain.chat_translation import Outcome
from retinue.domain.records import Usage
from retinue.domain.routing import Route
from retinue.gateway.access_log import AccessLog
from retinue.gateway.metrics import GatewayMetrics


class UsageSink(Protocol):
    """Where usage rows go; `put` never blocks and never fails, what it drops it counts itself."""

    def put(self, row: Usage) -> None:
        """Take one row."""
        ...


class Ledger:
    """Opens one account per request and settles it when the request has ended, however it ended."""

    def __init__(
        self,
        metrics: GatewayMetrics,
        usage: UsageSink | None,
        log: AccessLog,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.metrics = metrics
        self.clock = clock
        self._usage = usage
        self._now = now
        self._log = log

    def open(self, api: str) -> "Account":
        """The account of a request that begins now."""
        return Account(api=api, request_id=str(uuid.uuid4()), began=self.clock())

    def settle(self, account: "Account") -> None:
        """Write down what is known. Called exactly once per account."""
        total, at = self.clock() - account.began, self._now()
        outcome, route = account.outcome, account.route
        first = account.first_token - account.began if account.first_token is not None else None
        self.metrics.answered(account.api, account.status, account.error)
        if route is not None:
            revision = account.revision_name
            if outcome.finished:
                self.metrics.tokens(route, revision, outcome, first, total)
            self.metrics.request(route, revision, account.error, total)
            if self._usage is not None:
                self._usage.put(_row(account, route, at, first, total))
        self._log.write(
            at,
            {
                "request_id": account.request_id,
                "api": account.api,
                "namespace": route.namespace if route else "",
                "deployment": route.deployment if route else "",
                "revision": account.revision_name,
                "pod": account.pod,
                "stream": account.stream,
                "status": account.status,
                "error": account.error,
                "finish_reason": outcome.finish_reason,
                "prompt_tokens": outcome.prompt_tokens,
                "completion_tokens": outcome.completion_tokens,
                "first_token_ms": _ms(first) if first is not None else None,
                "total_ms": _ms(total),
            },
        )


class Account:
    """What is known of one request so far; times are readings of the ledger's clock."""

    __slots__ = (
        "api",
        "asked",
        "began",
        "error",
        "first_token",
        "outcome",
        "pod",
        "request_id",
        "route",
        "status",
        "stream",
        "upstream_ended",
    )

    def __init__(self, *, api: str, request_id: str, began: float) -> None:
        self.api = api
        self.request_id = request_id
        self.began = began
        self.route: Route | None = None
        self.pod = ""
        self.stream = False
        self.status = 0
        """Status line that the client got; 499 if it left before there was one."""
        self.error = ""
        self.outcome = Outcome()
        self.asked: float | None = None
        """When the request was first sent to a pod."""
        self.first_token: float | None = None
        self.upstream_ended: float | None = None
        """When the pod had said everything; a slow client may take longer to read it."""

    @property
    def revision_name(self) -> str:
        """The revision that answers, empty if there is none."""
        return self.route.revision.name if self.route is not None and self.route.revision is not None else ""

    def queued_seconds(self) -> float:
        """Time at the pod in which nothing was computed: all less loading, prompt and answer, as Ollama counts them."""
        if self.asked is None or self.upstream_ended is None:
            return 0.0
        busy = (self.outcome.load_ns + self.outcome.prompt_ns + self.outcome.eval_ns) / 1e9
        return max(0.0, self.upstream_ended - self.asked - busy)


def _row(account: Account, route: Route, at: datetime, first: float | None, total: float) -> Usage:
    outcome, revision = account.outcome, route.revision
    return Usage(
        request_id=account.request_id,
        at=at,
        namespace=route.namespace,
        deployment=route.deployment,
        revision=account.revision_name,
        model=revision.model if revision else "",
        model_digest=revision.model_digest if revision else "",
        pod=account.pod,
        api=account.api,
        stream=account.stream,
        status=account.status,
        error=account.error,
        finish_reason=outcome.finish_reason,
        prompt_tokens=outcome.prompt_tokens,
        completion_tokens=outcome.completion_tokens,
        queue_ms=_ms(account.queued_seconds()),
        first_token_ms=_ms(first) if first is not None else None,
        total_ms=_ms(total),
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
