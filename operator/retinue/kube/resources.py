"""The kinds that retinue reads or writes."""

from typing import Final

from retinue.kube.client import Resource
from retinue.resources.meta import API_VERSION, KINDS

ASSISTANT: Final = Resource(API_VERSION, "Assistant", KINDS["Assistant"])
ASSISTANT_TEMPLATE: Final = Resource(API_VERSION, "AssistantTemplate", KINDS["AssistantTemplate"])
ASSISTANT_REVISION: Final = Resource(API_VERSION, "AssistantRevision", KINDS["AssistantRevision"])
ASSISTANT_DEPLOYMENT: Final = Resource(API_VERSION, "AssistantDeployment", KINDS["AssistantDeployment"])
MODEL_SERVER: Final = Resource(API_VERSION, "ModelServer", KINDS["ModelServer"])

NAMESPACE: Final = Resource("v1", "Namespace", "namespaces", namespaced=False)
POD: Final = Resource("v1", "Pod", "pods")
SERVICE: Final = Resource("v1", "Service", "services")
CONFIG_MAP: Final = Resource("v1", "ConfigMap", "configmaps")
SECRET: Final = Resource("v1", "Secret", "secrets")
PERSISTENT_VOLUME_CLAIM: Final = Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
NODE: Final = Resource("v1", "Node", "nodes", namespaced=False)
EVENT: Final = Resource("v1", "Event", "events")
STATEFUL_SET: Final = Resource("apps/v1", "StatefulSet", "statefulsets")
POD_DISRUPTION_BUDGET: Final = Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY: Final = Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
ENDPOINT_SLICE: Final = Resource("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
LEASE: Final = Resource("coordination.k8s.io/v1", "Lease", "leases")
CUSTOM_RESOURCE_DEFINITION: Final = Resource(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)

_ALL: Final = (
    *(ASSISTANT, ASSISTANT_TEMPLATE, ASSISTANT_REVISION, ASSISTANT_DEPLOYMENT, MODEL_SERVER),
    *(NAMESPACE, POD, SERVICE, CONFIG_MAP, SECRET, PERSISTENT_VOLUME_CLAIM, NODE, EVENT),
    *(STATEFUL_SET, POD_DISRUPTION_BUDGET, NETWORK_POLICY, ENDPOINT_SLICE, LEASE, CUSTOM_RESOURCE_DEFINITION),
)
BY_KIND: Final = {resource.kind: resource for resource in _ALL}
"""Kind to Resource of everything above; kinds are unique among them."""
