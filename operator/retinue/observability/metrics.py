"""Metrics of a role, in a registry of its own. Names are API: dashboards and alerts are written against them."""

from collections.abc import Callable
from typing import Final, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from retinue import __version__


class Spec(NamedTuple):
    """Name, help text and labels of one metric."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


INFO = Spec("retinue_info", "Always 1; version and role of this process.", ("version", "role"))
LOOP_LAG = Spec("retinue_loop_lag_seconds", "By how much the event loop was late, at the last look.")
LEADER = Spec("retinue_leader", "1 while this process holds the Lease and may write, else 0.")
QUEUE_READY = Spec("retinue_queue_ready", "Keys that wait for a worker.")
QUEUE_DELAYED = Spec("retinue_queue_delayed", "Keys that are due later.")
QUEUE_ADDS = Spec("retinue_queue_adds_total", "Keys accepted into the queue.", ("kind",))
QUEUE_RETRIES = Spec("retinue_queue_retries_total", "Keys that came back after a failed pass.", ("kind",))
QUEUE_WAIT = Spec("retinue_queue_wait_seconds", "Time from a key being ready to a worker taking it.", ("kind",))
RECONCILES = Spec(
    "retinue_reconciles_total",
    "Passes by kind and result: ok, conflict, unavailable, refused, timeout, error.",
    ("kind", "result"),
)
RECONCILE_SECONDS = Spec("retinue_reconcile_seconds", "Duration of a pass.", ("kind",))
API_CALLS = Spec(
    "retinue_api_calls_total", "Calls to the API server; code 0 means no answer.", ("verb", "resource", "code")
)
API_SECONDS = Spec("retinue_api_call_seconds", "Time until the API server began to answer.", ("verb",))
RELIST_AGE = Spec("retinue_relist_age_seconds", "Seconds since the last complete relist; -1 before the first.")
WATCH_RESTARTS = Spec("retinue_watch_restarts_total", "How often the watching thread had to be started again.")
OBJECTS = Spec("retinue_cached_objects", "Objects held in the cache.", ("kind",))

SHORT_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)
WAIT_BUCKETS: Final = (0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0)


class Metrics:
    """Registry of one role with what every role reports."""

    def __init__(self, role: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.gauge(INFO).labels(__version__, role).set(1)
        self._lag = self.gauge(LOOP_LAG)

    def counter(self, spec: Spec) -> Counter:
        """Registers a counter."""
        return Counter(spec.name, spec.help, spec.labels, registry=self.registry)

    def gauge(self, spec: Spec, value: Callable[[], float] | None = None) -> Gauge:
        """Registers a gauge; with `value` it is asked at every scrape."""
        gauge = Gauge(spec.name, spec.help, spec.labels, registry=self.registry)
        if value is not None:
            gauge.set_function(value)
        return gauge

    def histogram(self, spec: Spec, buckets: tuple[float, ...] = SHORT_BUCKETS) -> Histogram:
        """Registers a histogram."""
        return Histogram(spec.name, spec.help, spec.labels, registry=self.registry, buckets=buckets)

    def loop_lag(self, seconds: float) -> None:
        """For `measure_lag`."""
        self._lag.set(seconds)

    def render(self) -> tuple[bytes, str]:
        """The page of `/metrics` and its content type."""
        encoder, content_type = choose_encoder("")
        return encoder(self.registry), content_type


class ApiCalls:
    """Observer of the API client (`connect(observer=...)`)."""

    def __init__(self, metrics: Metrics) -> None:
        self._calls = metrics.counter(API_CALLS)
        self._seconds = metrics.histogram(API_SECONDS)

    def __call__(self, verb: str, resource: str, status: int, seconds: float) -> None:
        """Counts one call."""
        self._calls.labels(verb, resource, str(status)).inc()
        self._seconds.labels(verb).observe(seconds)


class WorkMetrics:
    """What the queue and the workers of the operator report."""

    def __init__(self, metrics: Metrics) -> None:
        self._ready = metrics.gauge(QUEUE_READY)
        self._delayed = metrics.gauge(QUEUE_DELAYED)
        self._adds = metrics.counter(QUEUE_ADDS)
        self._retries = metrics.counter(QUEUE_RETRIES)
        self._wait = metrics.histogram(QUEUE_WAIT, WAIT_BUCKETS)
        self._passes = metrics.counter(RECONCILES)
        self._seconds = metrics.histogram(RECONCILE_SECONDS)

    def depth(self, waiting: int, delayed: int) -> None:
        """Current sizes of the queue."""
        self._ready.set(waiting)
        self._delayed.set(delayed)

    def added(self, kind: str) -> None:
        """A key was accepted."""
        self._adds.labels(kind).inc()

    def started(self, kind: str, waited_seconds: float) -> None:
        """A worker took a key."""
        self._wait.labels(kind).observe(waited_seconds)

    def retried(self, kind: str) -> None:
        """A key comes back after a failure."""
        self._retries.labels(kind).inc()

    def finished(self, kind: str, result: str, seconds: float) -> None:
        """A pass ended."""
        self._passes.labels(kind, result).inc()
        self._seconds.labels(kind).observe(seconds)
