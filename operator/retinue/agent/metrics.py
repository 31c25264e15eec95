"""Prometheus metrics of one agent, in a registry of its own. No label ever holds anything that a client sent."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from retinue.agent.admission import Admission
from retinue.agent.state import ServerState


class AgentMetrics:
    """Counters that the routes feed, and gauges that are read from the state when somebody asks."""

    def __init__(self, state: ServerState, admission: Admission) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        registry = self._registry
        self.requests = Counter(
            "retinue_agent_requests",
            "Requests that ended, by route and HTTP code; 499: the client left.",
            ("route", "code"),
            registry=registry,
        )
        self.rejected = Counter(
            "retinue_agent_rejected",
            "Requests that never reached Ollama, by reason.",
            ("reason",),
            registry=registry,
        )
        self.tokens = Counter(
            "retinue_agent_tokens", "Tokens that Ollama counted, by kind.", ("kind",), registry=registry
        )
        for name, text, read in (
            ("in_flight", "Requests that hold a slot.", lambda: admission.in_flight),
            ("queued", "Requests that wait for a slot.", lambda: admission.queued),
            ("slots", "Requests that Ollama works on at once.", lambda: admission.slots),
            ("ready", "1 while the pod serves.", lambda: int(state.ready)),
            (
                "pull_completed_bytes",
                "Bytes of the running pull.",
                lambda: state.pull.completed_bytes if state.pull else 0,
            ),
            ("pull_total_bytes", "Size of the running pull.", lambda: state.pull.total_bytes if state.pull else 0),
        ):
            Gauge(f"retinue_agent_{name}", text, registry=registry).set_function(read)

    def exposition(self) -> bytes:
        """The text format."""
        return generate_latest(self._registry)
