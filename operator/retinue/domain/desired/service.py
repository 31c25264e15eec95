"""The headless Service that gives gateways one EndpointSlice entry per Ready model pod."""

from retinue.domain.desired.labels import AGENT_PORT, Object, child, selector
from retinue.resources.v1alpha1.modelserver import ModelServer


def build_service(server: ModelServer) -> Object | None:
    """The Service of the model pods, or None for an external server.

    Headless, because gateways choose the pod themselves; pods that are not Ready are left out, so that no request
    reaches a pod that still pulls.
    """
    if server.spec.external_server is not None:
        return None
    spec: Object = {
        "clusterIP": "None",
        "publishNotReadyAddresses": False,
        "selector": selector(server.name),
        "ports": [{"name": "agent", "port": AGENT_PORT, "targetPort": "agent", "protocol": "TCP"}],
    }
    return child("v1", "Service", server, spec)
