"""The fault proxy in front of a real API server: it knows verbs, kinds and objects, and makes its own kubeconfig."""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
from pathlib import Path
from typing import Any, Self

import yaml
from aiohttp import web

from testbed.errors import TestbedError
from testbed.faultproxy_faults import CutStream, ErrorInStream, Refuse, Seen, SilentStream
from testbed.faultproxy_http import HttpFaultProxy
from testbed.pki import Pair

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class KubeFaultProxy(HttpFaultProxy):
    """Clients use `kubeconfig`. A bearer token is passed on; everybody else acts as the given kubeconfig's user."""

    def __init__(self, kubeconfig: Path, serving: Pair) -> None:
        """`kubeconfig`: of the real cluster. `serving`: a certificate for 127.0.0.1, signed by the cluster's CA."""
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = _current(config)
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server_tls.load_cert_chain(serving.cert, serving.key)
        client_tls = ssl.create_default_context(cadata=authority)
        if "client-certificate-data" in user:
            _load_pair(client_tls, user)
        anonymous_tls = ssl.create_default_context(cadata=authority)
        super().__init__(cluster["server"], server_tls=server_tls, client_tls=client_tls, anonymous_tls=anonymous_tls)
        self._config = config
        self._cluster_entry = cluster
        self._beside = kubeconfig

    @property
    def kubeconfig(self) -> Path:
        """The same user and CA, with the proxy as the server. It lies in the cluster's folder and ends with it."""
        return self._beside.with_name(f"kubeconfig-through-{self.port}")

    def start(self) -> Self:
        """Listen, and write the kubeconfig."""
        super().start()
        self._cluster_entry["server"] = self.url
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(yaml.safe_dump(self._config))
        return self

    def stop(self) -> None:
        """End, and remove the kubeconfig."""
        super().stop()
        self.kubeconfig.unlink(missing_ok=True)

    def cut_watches(self, resource: str | None = None) -> int:
        """Reset the watches that are open now (of one resource); returns how many."""
        return self.order_streams(CutStream(), resource)

    def silence_watches(self, resource: str | None = None) -> int:
        """Keep the open watches open and let nothing through any more, neither events nor bookmarks nor the end."""
        return self.order_streams(SilentStream(), resource)

    def expire_watches(self, resource: str | None = None) -> int:
        """Let the open watches end with the 410 that asks for a new list."""
        return self.order_streams(gone(), resource)

    def classify(self, number: int, request: web.BaseRequest, body: bytes) -> Seen:
        """Verb, plural (with subresource), namespace and name, as RBAC and audit logs put them."""
        return classify(number, request.method, request.path, dict(request.query), body)

    def refusal(self, seen: Seen, fault: Refuse) -> bytes:
        """A `Status` object."""
        reason = "AlreadyExists" if fault.status == 409 and seen.verb == "create" else _REASONS.get(fault.status, "")
        return json.dumps(_status(fault.status, reason, fault.message)).encode()


def gone(after: int = 0) -> ErrorInStream:
    """The fault of a watch whose resourceVersion has been compacted away: an ERROR event with code 410."""
    status = _status(410, "Expired", "too old resource version: injected")
    return ErrorInStream(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n", after)


def classify(number: int, method: str, path: str, query: dict[str, str], body: bytes) -> Seen:
    """Read a request to an API server."""
    parts = [part for part in path.split("/") if part]
    if len(parts) < 3 or parts[0] not in ("api", "apis"):
        return Seen(number, method.lower(), path)
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = ""
    if len(rest) >= 2 and rest[0] == "namespaces":
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in ("status", "finalize"):
            rest = rest[2:]
    if not rest:
        return Seen(number, method.lower(), path)
    resource, name = rest[0], rest[1] if len(rest) > 1 else ""
    if len(rest) > 2:
        resource = f"{resource}/{rest[2]}"
    if method in ("GET", "HEAD"):
        watch = query.get("watch") in ("1", "true")
        verb = "watch" if watch else "get" if name else "list"
    else:
        verb = _VERBS.get(method, method.lower())
        if verb == "delete" and not name:
            verb = "deletecollection"
    if verb == "create" and not name:
        name = _name_in(body)
    return Seen(number, verb, resource, namespace, name, dry_run=query.get("dryRun") == "All")


def _name_in(body: bytes) -> str:
    try:
        metadata = json.loads(body).get("metadata", {})
    except (ValueError, AttributeError):
        return ""
    return str(metadata.get("name") or metadata.get("generateName") or "")


def _status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def _current(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The cluster and user entries of the current context."""
    try:
        wanted = config["current-context"]
        context = next(entry["context"] for entry in config["contexts"] if entry["name"] == wanted)
        cluster = next(entry["cluster"] for entry in config["clusters"] if entry["name"] == context["cluster"])
        user = next(entry["user"] for entry in config["users"] if entry["name"] == context["user"])
    except (KeyError, StopIteration) as error:
        raise TestbedError(
            "the kubeconfig has no whole current context: cluster and user must both be in it"
        ) from error
    return cluster, user


def _load_pair(context: ssl.SSLContext, user: dict[str, Any]) -> None:
    """Give the context a client certificate; `ssl` reads it from a file only."""
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        for field in ("client-certificate-data", "client-key-data"):
            file.write(base64.b64decode(user[field]) + b"\n")
        file.flush()
        context.load_cert_chain(file.name)
