"""Names, labels and the comparison that all children of a ModelServer share."""

import hashlib
from typing import Any, Final

import rfc8785

from retinue.resources.meta import API_VERSION, LABEL_MANAGED_BY, LABEL_MODEL_SERVER, LABEL_NAME, MANAGED_BY
from retinue.resources.v1alpha1.modelserver import ModelServer

Object = dict[str, Any]

APP: Final = "ollama"
AGENT_PORT: Final = 8080
"""Port of the agent: the only one that a model pod opens."""
ANNOTATION_DESIRED: Final = "retinue.dev/desired"
"""On each child: hash of the object as it was applied, so that a field that is no longer wanted is noticed."""


def selector(server_name: str) -> dict[str, str]:
    """Labels by which Service, PodDisruptionBudget and NetworkPolicy find the pods of one ModelServer."""
    return {LABEL_MODEL_SERVER: server_name}


def labels(server_name: str) -> dict[str, str]:
    """Labels of every child, pods included."""
    return {LABEL_MANAGED_BY: MANAGED_BY, LABEL_NAME: APP, LABEL_MODEL_SERVER: server_name}


def child(api_version: str, kind: str, server: ModelServer, spec: Object) -> Object:
    """A whole child object: named like its ModelServer, owned by it, stamped with the hash of its content.

    The owner reference lets the garbage collector remove the children of a deleted ModelServer.
    """
    owner = {
        "apiVersion": API_VERSION,
        "kind": "ModelServer",
        "name": server.name,
        "uid": server.metadata.uid,
        "controller": True,
    }
    body: Object = {
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
    body["metadata"]["annotations"] = {ANNOTATION_DESIRED: hashlib.sha256(rfc8785.dumps(body)).hexdigest()[:16]}
    return body
