"""A thin HTTP client for tests of the kinds: status codes and messages as the API server sends them."""

import ssl
from dataclasses import dataclass
from typing import Any

import httpx

from retinue.resources.meta import KINDS
from testbed.cluster import Cluster

Object = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the API server said."""

    code: int
    body: Object

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


class KindsApi:
    """Talks to one namespace of a real API server."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        certs = cluster.certs
        context = ssl.create_default_context(cafile=str(certs.authority.cert))
        context.load_cert_chain(str(certs.admin.cert), str(certs.admin.key))
        self._http = httpx.Client(base_url=cluster.url, verify=context, timeout=30)
        self._namespace = namespace

    def close(self) -> None:
        self._http.close()

    def get(self, path: str) -> Answer:
        return self._answer(self._http.get(path))

    def read(self, kind: str, name: str, subresource: str = "") -> Answer:
        return self.get(self._path(kind, name, subresource))

    def create(self, obj: Object, *, dry_run: bool = False) -> Answer:
        return self._answer(self._http.post(self._path(obj["kind"]), json=self._sent(obj), params=_query(dry_run)))

    def replace(self, obj: Object, *, subresource: str = "", dry_run: bool = False) -> Answer:
        """Full update of what is stored now, whatever resourceVersion the object names."""
        name = obj["metadata"]["name"]
        sent = self._sent(obj)
        stored = self.read(obj["kind"], name).body
        sent["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"]
        path = self._path(obj["kind"], name, subresource)
        return self._answer(self._http.put(path, json=sent, params=_query(dry_run)))

    def put(self, path: str, body: Object) -> Answer:
        return self._answer(self._http.put(path, json=body))

    def scale_path(self, name: str) -> str:
        return self._path("AssistantDeployment", name, "scale")

    def _path(self, kind: str, name: str = "", subresource: str = "") -> str:
        parts = ["/apis/retinue.dev/v1alpha1/namespaces", self._namespace, KINDS[kind], name, subresource]
        return "/".join(part for part in parts if part)

    def _sent(self, obj: Object) -> Object:
        kept = {k: v for k, v in obj["metadata"].items() if k in ("name", "labels", "annotations")}
        kept["namespace"] = self._namespace
        return {**obj, "metadata": kept}

    @staticmethod
    def _answer(response: httpx.Response) -> Answer:
        return Answer(response.status_code, response.json())


def _query(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}
