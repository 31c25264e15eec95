"""The gateway's Prometheus metrics, in its own registry, with the GenAI semantic-convention names where they exist.

Labels are namespace, deployment and revision: as many series as there are routes. Series of revisions that no route
names any more are dropped, so that a year of rollouts does not add up.
"""

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

from retinue.domain.chat_translation import Outcome
from retinue.domain.routing import Route, RouteTable
from retinue.observability.metrics import Metrics

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
PER_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144)
ROUTE = ("namespace", "deployment", "revision")

Key = tuple[str, str, str]


class _Series:
    """The bound children of one route and revision: looking them up by label is most of the cost of a metric."""

    __slots__ = ("errors", "first", "input", "output", "per_token")

    def __init__(self, metrics: "GatewayMetrics", key: Key) -> None:
        self.errors: dict[str, Histogram] = {}
        self.first = metrics.first_token.labels(*key)
        self.per_token = metrics.per_token.labels(*key)
        self.input = metrics.token_usage.labels(*key, "input")
        self.output = metrics.token_usage.labels(*key, "output")


class GatewayMetrics:
    """All metrics of one gateway."""

    def __init__(self) -> None:
        self._role = Metrics("gateway")
        self.registry = self._role.registry
        self.loop_lag = self._role.loop_lag
        self.duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "Time from a request's arrival to its end. error_type is empty for requests that went well.",
            (*ROUTE, "error_type"),
            registry=self.registry,
            buckets=SECONDS,
        )
        self.first_token = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time from a streamed request's arrival to the first piece of its answer.",
            ROUTE,
            registry=self.registry,
            buckets=FIRST_TOKEN_SECONDS,
        )
        self.per_token = Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time per token of an answer after the first one.",
            ROUTE,
            registry=self.registry,
            buckets=PER_TOKEN_SECONDS,
        )
        self.token_usage = Histogram(
            "gen_ai_client_token_usage",
            "Tokens of finished requests by Ollama's own count.",
            (*ROUTE, "gen_ai_token_type"),
            registry=self.registry,
            buckets=TOKENS,
        )
        self.http = Counter(
            "retinue_gateway_http_requests",
            "Requests by route of the API, status and error code.",
            ("api", "status", "error_type"),
            registry=self.registry,
        )
        self.in_flight = Gauge("retinue_gateway_requests_in_flight", "Requests in work.", registry=self.registry)
        self.routes = Gauge("retinue_gateway_routes", "Routes by state.", ("state",), registry=self.registry)
        self.live = Gauge(
            "retinue_gateway_routes_live",
            "1 when the routes come from the API server, 0 when they come from the last snapshot on disk.",
            registry=self.registry,
        )
        self.rebuilt = Gauge(
            "retinue_gateway_routes_rebuilt_timestamp_seconds",
            "When the routes were last built.",
            registry=self.registry,
        )
        self._series: dict[Key, _Series] = {}
        self._http: dict[tuple[str, int, str], Counter] = {}

    def answered(self, api: str, status: int, error: str) -> None:
        """Count one request of any kind."""
        key = (api, status, error)
        child = self._http.get(key)
        if child is None:
            child = self._http[key] = self.http.labels(api, str(status), error)
        child.inc()

    def request(self, route: Route, revision: str, error: str, seconds: float) -> None:
        """Observe the end of a request that had a route."""
        key = (route.namespace, route.deployment, revision)
        series = self._of(key)
        child = series.errors.get(error)
        if child is None:
            child = series.errors[error] = self.duration.labels(*key, error)
        child.observe(seconds)

    def tokens(self, route: Route, revision: str, outcome: Outcome, first: float | None, total: float) -> None:
        """Observe what a finished answer consisted of. `first` is only known for streams."""
        series = self._of((route.namespace, route.deployment, revision))
        count = outcome.completion_tokens or 0
        series.input.observe(outcome.prompt_tokens or 0)
        series.output.observe(count)
        if first is not None:
            series.first.observe(first)
            if count > 1:
                series.per_token.observe((total - first) / (count - 1))

    def routes_changed(self, table: RouteTable, before: RouteTable, *, live: bool, at: float) -> None:
        """Show the new table and drop the series that neither it nor the one before it can use."""
        states: dict[str, int] = {}
        for route in table.routes.values():
            states[route.state.value] = states.get(route.state.value, 0) + 1
        self.routes.clear()
        for state, count in states.items():
            self.routes.labels(state).set(count)
        self.live.set(live)
        self.rebuilt.set(at)
        used = set(_keys(table)) | set(_keys(before))
        for key in [k for k in self._series if k not in used]:
            series = self._series.pop(key)
            for error in series.errors:
                self.duration.remove(*key, error)
            self.first_token.remove(*key)
            self.per_token.remove(*key)
            self.token_usage.remove(*key, "input")
            self.token_usage.remove(*key, "output")

    def render(self) -> tuple[bytes, str]:
        """The page of /metrics and its content type."""
        return self._role.render()

    def _of(self, key: Key) -> _Series:
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series(self, key)
        return series


def _keys(table: RouteTable) -> Iterable[Key]:
    for route in table.routes.values():
        yield route.namespace, route.deployment, route.revision.name if route.revision else ""
