"""Names and labels that all children of a ModelServer share."""

from typing import Any, Final

from retinue.resources.meta import API_VERSION, LABEL_MANAGED_BY, LABEL_MODEL_SERVER, LABEL_NAME, MANAGED_BY
from retinue.resources.v1alpha1.modelserver import ModelServer

Object = dict[str, Any]

APP: Final = "ollama"
AGENT_PORT: Final = 8080
"""Port of the agent: the only one that a model pod opens."""


def selector(server_name: str) -> dict[str, str]:
    """Labels by which Service, PodDisruptionBudget and NetworkPolicy find the pods of one ModelServer."""
    return {LABEL_MODEL_SERVER: server_name}


def labels(server_name: str) -> dict[str, str]:
    """Labels of every child, pods included."""
    return {LABEL_MANAGED_BY: MANAGED_BY, LABEL_NAME: APP, LABEL_MODEL_SERVER: server_name}


def child(api_version: str, kind: str, server: ModelServer, spec: Object) -> Object:
    """A whole child object: named like its ModelServer and owned by it.

    The owner reference lets the garbage collector remove the children of a deleted ModelServer.
    """
    owner = {
        "apiVersion": API_VERSION,
        "kind": "ModelServer",
        "name": server.name,
        "uid": server.metadata.uid,
        "controller": True,
    }
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": server.name,
            "namespace": server.namespace,
            "labels": labels(server.name),
            "ownerReferences": [owner],
        },
        "spec": spec,
    }
