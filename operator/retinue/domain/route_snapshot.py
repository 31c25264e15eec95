"""The objects behind the routes as one file: what a gateway starts from when the API server does not answer.

Objects are kept and not routes, because the platform file may have changed since; only the fields that routes are made
of are kept. The file holds prompts, so it belongs on a volume of the pod.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from retinue.domain.routing import SERVICE_NAME_LABEL, RouteObjects
from retinue.resources.meta import READY

Object = Mapping[str, Any]

MAGIC: Final = b"retinue-routes 1 "
"""Begins the file; the SHA-256 of the rest follows on the same line."""
KINDS: Final = ("deployments", "revisions", "model_servers", "endpoint_slices")


class SnapshotDamaged(ValueError):
    """The file is not one of ours, or not all of it is there."""


def project_deployment(item: Object) -> dict[str, Any]:
    """What routes need of an AssistantDeployment; equal projections mean equal routes."""
    spec, status = item.get("spec") or {}, item.get("status") or {}
    ready = [c for c in status.get("conditions") or () if c.get("type") == READY]
    return {
        "metadata": _metadata(item),
        "spec": _some(spec, "suspend", "replicas"),
        "status": {
            **_some(status, "activeRevision", "modelServer"),
            "conditions": [_some(c, "type", "reason", "message") for c in ready],
        },
    }


def project_revision(item: Object) -> dict[str, Any]:
    """What routes need of an AssistantRevision: everything that its digest covers."""
    spec = item.get("spec") or {}
    return {"metadata": _metadata(item), "spec": _some(spec, "assistant", "schemaVersion", "digest", "snapshot")}


def project_model_server(item: Object) -> dict[str, Any]:
    """What routes need of a ModelServer."""
    spec = item.get("spec") or {}
    return {"metadata": _metadata(item), "spec": _some(spec, "model", "runner", "profile", "externalServer")}


def project_endpoint_slice(item: Object) -> dict[str, Any]:
    """What routes need of an EndpointSlice."""
    metadata = _metadata(item)
    service = (item["metadata"].get("labels") or {}).get(SERVICE_NAME_LABEL)
    if service:
        metadata["labels"] = {SERVICE_NAME_LABEL: service}
    return {
        "metadata": metadata,
        "ports": [_some(p, "name", "port") for p in item.get("ports") or ()],
        "endpoints": [
            {**_some(e, "addresses", "conditions"), "targetRef": _some(e.get("targetRef") or {}, "name")}
            for e in item.get("endpoints") or ()
        ],
    }


def write_snapshot(objects: RouteObjects) -> bytes:
    """The file's content. Of the revisions only those that a deployment serves are kept: the others are not needed."""
    deployments = _sorted(objects.deployments)
    active = {(d["metadata"]["namespace"], (d.get("status") or {}).get("activeRevision")) for d in deployments}
    revisions = (r for r in objects.revisions if (r["metadata"]["namespace"], r["metadata"]["name"]) in active)
    document = {
        "deployments": deployments,
        "revisions": _sorted(revisions),
        "model_servers": _sorted(objects.model_servers),
        "endpoint_slices": _sorted(objects.endpoint_slices),
    }
    content = orjson.dumps(document)
    return MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def read_snapshot(data: bytes) -> RouteObjects:
    """The objects in a file's content. Raises SnapshotDamaged."""
    head, _, content = data.partition(b"\n")
    if head != MAGIC + hashlib.sha256(content).hexdigest().encode():
        raise SnapshotDamaged("its first line is not that of a complete route snapshot of this version")
    document = orjson.loads(content)
    return RouteObjects(**{kind: document[kind] for kind in KINDS})


def _sorted(objects: Iterable[Object]) -> list[Object]:
    return sorted(objects, key=lambda o: (o["metadata"]["namespace"], o["metadata"]["name"]))


def _metadata(item: Object) -> dict[str, Any]:
    return _some(item["metadata"], "name", "namespace", "uid", "creationTimestamp")


def _some(source: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: source[name] for name in names if source.get(name) is not None}
