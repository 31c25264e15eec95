"""Prometheus metrics of one agent. No label ever holds anything that a client sent."""

from typing import Final

from retinue.agent.admission import Admission
from retinue.agent.state import ServerState
from retinue.observability.metrics import Metrics, Spec

REQUESTS: Final = Spec(
    "retinue_agent_requests_total",
    "Requests that ended, by route and HTTP code; 499: the client left; broken: Ollama did; cut: the pod went away.",
    ("route", "code"),
)
REJECTED: Final = Spec(
    "retinue_agent_rejected_total", "Requests that the agent answered itself, by reason.", ("reason",)
)
TOKENS: Final = Spec("retinue_agent_tokens_total", "Tokens that Ollama counted: prompt or completion.", ("kind",))
IN_FLIGHT: Final = Spec("retinue_agent_in_flight", "Requests that hold a slot.")
QUEUED: Final = Spec("retinue_agent_queued", "Requests that wait for a slot.")
SLOTS: Final = Spec("retinue_agent_slots", "Requests that Ollama works on at once.")
READY: Final = Spec("retinue_agent_ready", "1 while the pod serves, else 0.")
PULL_COMPLETED: Final = Spec("retinue_agent_pull_completed_bytes", "Bytes of the running pull that are here.")
PULL_TOTAL: Final = Spec("retinue_agent_pull_total_bytes", "Size of the running pull as far as it is known.")


class AgentMetrics:
    """Counters that the routes feed, and gauges that are read from the state when somebody asks."""

    def __init__(self, state: ServerState, admission: Admission) -> None:
        metrics = Metrics("agent")
        self.render = metrics.render
        self.requests = metrics.counter(REQUESTS)
        self.rejected = metrics.counter(REJECTED)
        self.tokens = metrics.counter(TOKENS)
        metrics.gauge(IN_FLIGHT, lambda: admission.in_flight)
        metrics.gauge(QUEUED, lambda: admission.queued)
        metrics.gauge(SLOTS, lambda: admission.slots)
        metrics.gauge(READY, lambda: int(state.ready))
        metrics.gauge(PULL_COMPLETED, lambda: state.pull.completed_bytes if state.pull else 0)
        metrics.gauge(PULL_TOTAL, lambda: state.pull.total_bytes if state.pull else 0)
