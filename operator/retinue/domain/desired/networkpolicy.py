"""The NetworkPolicy of model pods: only retinue comes in, only registries and DNS are reached."""

from retinue.domain.desired.labels import AGENT_PORT, Object, child, selector
from retinue.resources.meta import LABEL_NAME
from retinue.resources.platform import ModelRegistry, PlatformConfig
from retinue.resources.v1alpha1.modelserver import ModelServer

LINK_LOCAL = "169.254.0.0/16"
"""Metadata services of clouds: never reachable from a model pod."""


def _port(registry: ModelRegistry) -> int:
    host, _, port = registry.host.rpartition(":")
    if host and port.isdigit():
        return int(port)
    return 80 if registry.insecure else 443


def build_network_policy(server: ModelServer, platform: PlatformConfig) -> Object | None:
    """The policy of the model pods, or None for an external server.

    A NetworkPolicy knows no host names, so egress is bounded by port: those of the listed registries and 443, where
    registries redirect to for the layers.
    """
    if server.spec.external_server is not None:
        return None
    release = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": platform.release_namespace}},
        "podSelector": {"matchLabels": {LABEL_NAME: "retinue"}},
    }
    ports = sorted({443, *(_port(r) for r in platform.model_registries)})
    spec: Object = {
        "podSelector": {"matchLabels": selector(server.name)},
        "policyTypes": ["Egress", "Ingress"],
        "ingress": [{"from": [release], "ports": [{"port": AGENT_PORT, "protocol": "TCP"}]}],
        "egress": [
            {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
            {
                "to": [
                    {"ipBlock": {"cidr": "0.0.0.0/0", "except": [LINK_LOCAL]}},
                    {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10"]}},
                ],
                "ports": [{"port": port, "protocol": "TCP"} for port in ports],
            },
        ],
    }
    return child("networking.k8s.io/v1", "NetworkPolicy", server, spec)
