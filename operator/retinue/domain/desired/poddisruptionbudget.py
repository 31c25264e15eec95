"""The PodDisruptionBudget that keeps node drains from taking two model pods at once."""

from retinue.domain.desired.labels import Object, child, selector
from retinue.resources.v1alpha1.modelserver import ModelServer


def build_pod_disruption_budget(server: ModelServer) -> Object | None:
    """The budget of the model pods, or None for an external server.

    Pods that are not Ready may always be evicted: a pod that pulls for an hour must not block a drain.
    """
    if server.spec.external_server is not None:
        return None
    spec: Object = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": selector(server.name)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return child("policy/v1", "PodDisruptionBudget", server, spec)
