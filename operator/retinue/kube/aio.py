"""The only HTTP adapter to the API server: configuration, TLS and tokens of `kubernetes.aio`, bodies as raw JSON.

The typed methods of that library are not used: they return None for 201 and drop fields they do not know.
"""

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import orjson
import yaml
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from retinue.kube import errors
from retinue.kube.client import KubeClient, Object, Page, Resource
from retinue.kube.replies import decode, error_of
from retinue.resources.meta import FIELD_MANAGER

CALL_SECONDS = 15.0
CONNECT_SECONDS = 5.0
APPLY = "application/apply-patch+yaml"
JSON = "application/json"

CallObserver = Callable[[str, str, int, float], None]
"""Told of every call: verb, plural or path, HTTP status (0: no answer), seconds."""


class NoCluster(Exception):
    """No usable configuration of an API server was found; the message says where was looked."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the API server is and how to log in, for the other client in the process (kopf)."""

    server: str
    ca_path: str | None
    ca_data: str | bytes | None
    certificate_path: str | None
    private_key_path: str | None
    authorization: str | None
    """The whole header value, for example `Bearer ...`."""
    insecure: bool
    proxy: str | None


@dataclass(frozen=True, slots=True)
class _Request:
    """One HTTP request; `verb` and `label` name it in metrics."""

    method: str
    path: str
    label: str
    verb: str
    query: Mapping[str, str] | None = None
    body: Object | None = None
    content_type: str = JSON


async def connect(
    kubeconfig: str | None = None, context: str | None = None, *, observer: CallObserver | None = None
) -> "AioKubeClient":
    """A client from the given kubeconfig or context; with neither from the pod's service account, else `$KUBECONFIG`.

    Raises NoCluster. Make one per process and close it.
    """
    inside = kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ

    async def load() -> Configuration:
        configuration = Configuration()
        try:
            if inside:
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            else:
                await load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=kubeconfig, context=context, client_configuration=configuration, persist_config=False
                )
        except (ConfigException, OSError, AttributeError, TypeError, yaml.YAMLError) as error:
            where = (
                "the pod's service account"
                if inside
                else kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
            )
            raise NoCluster(
                f"cannot reach a cluster with {where}: {error}. Set --kubeconfig or KUBECONFIG to a readable kubeconfig"
                + (f" that has the context {context!r}" if context else "")
            ) from error
        return configuration

    return AioKubeClient(await load(), load, observer=observer)


class AioKubeClient(KubeClient):
    """See `retinue.kube.client.KubeClient`. Every call ends within `call_seconds`."""

    def __init__(
        self,
        configuration: Configuration,
        reload: Callable[[], Awaitable[Configuration]] | None = None,
        *,
        call_seconds: float = CALL_SECONDS,
        observer: CallObserver | None = None,
    ) -> None:
        """`reload` reads the configuration again when the server no longer accepts the token."""
        self._configuration = configuration
        self._reload = reload
        self._observer = observer
        self._timeout = aiohttp.ClientTimeout(total=call_seconds, sock_connect=CONNECT_SECONDS)
        self._api = ApiClient(configuration)

    async def credentials(self) -> Credentials:
        """What this client logs in with right now; tokens are read again when they are due."""
        c = self._configuration
        return Credentials(
            server=c.host,
            ca_path=c.ssl_ca_cert,
            ca_data=c.ca_cert_data,
            certificate_path=c.cert_file,
            private_key_path=c.key_file,
            authorization=await c.get_api_key_with_prefix("BearerToken", alias="authorization"),
            insecure=not c.verify_ssl,
            proxy=c.proxy,
        )

    async def renew_credentials(self) -> Credentials:
        """Reads the configuration again, for a caller whose login was refused."""
        await self._renew()
        return await self.credentials()

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """See KubeClient."""
        return await self._call("GET", path_of(resource, namespace, name), label=resource.plural)

    async def list_page(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        limit: int = 500,
        continue_token: str | None = None,
    ) -> Page:
        """See KubeClient. Items get the kind and apiVersion that lists of built-in kinds leave out."""
        query = {"limit": str(limit)}
        if label_selector:
            query["labelSelector"] = label_selector
        if continue_token:
            query["continue"] = continue_token
        body = await self._call("GET", path_of(resource, namespace), query, label=resource.plural, verb="LIST")
        metadata = body.get("metadata") or {}
        kind = {"apiVersion": resource.api_version, "kind": resource.kind}
        items = [{**kind, **item} for item in body.get("items") or []]
        return Page(items, metadata.get("resourceVersion", ""), metadata.get("continue") or None)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        resource_version: str,
        timeout_seconds: int = 290,
    ) -> AsyncIterator[tuple[str, Object]]:
        """See KubeClient."""
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_seconds),
        }
        if label_selector:
            query["labelSelector"] = label_selector
        timeout = aiohttp.ClientTimeout(total=timeout_seconds + 30, sock_connect=CONNECT_SECONDS)
        request = _Request("GET", path_of(resource, namespace), resource.plural, "WATCH", query)
        response = await self._send(request, timeout)
        try:
            # Not readline(): it fails on objects that are longer than its buffer.
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line:
                        yield _event(line)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error
        except (orjson.JSONDecodeError, KeyError, TypeError):
            # Not chained: the error holds what was sent.
            raise errors.Unavailable(
                0, "NotAWatch", "something between us and the API server answers a watch"
            ) from None
        finally:
            response.close()

    async def create(self, resource: Resource, body: Object, namespace: str | None = None) -> Object:
        """See KubeClient."""
        namespace = namespace or body.get("metadata", {}).get("namespace")
        query = {"fieldManager": FIELD_MANAGER}
        return await self._call("POST", path_of(resource, namespace), query, body, label=resource.plural)

    async def apply(self, resource: Resource, body: Object) -> Object:
        """See KubeClient."""
        return await self._apply(resource, body)

    async def apply_status(self, resource: Resource, body: Object) -> Object:
        """See KubeClient."""
        return await self._apply(resource, body, "status")

    async def _apply(self, resource: Resource, body: Object, subresource: str | None = None) -> Object:
        metadata = body["metadata"]
        path = path_of(resource, metadata.get("namespace"), metadata["name"], subresource)
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        label = f"{resource.plural}/{subresource}" if subresource else resource.plural
        return await self._call("PATCH", path, query, body, label=label, verb="APPLY", content_type=APPLY)

    async def replace(self, resource: Resource, body: Object) -> Object:
        """See KubeClient."""
        metadata = body["metadata"]
        path = path_of(resource, metadata.get("namespace"), metadata["name"])
        return await self._call("PUT", path, {"fieldManager": FIELD_MANAGER}, body, label=resource.plural)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str = "Background",
        grace_period_seconds: int | None = None,
    ) -> None:
        """See KubeClient."""
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        body: Object = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
            "preconditions": {key: value for key, value in preconditions.items() if value},
        }
        if grace_period_seconds is not None:
            body["gracePeriodSeconds"] = grace_period_seconds
        await self._call("DELETE", path_of(resource, namespace, name), None, body, label=resource.plural)

    async def request(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Object | None = None
    ) -> Object:
        """See KubeClient."""
        return await self._call(method, path, query, body, label=path.partition("?")[0])

    async def close(self) -> None:
        """See KubeClient."""
        await self._api.close()  # type: ignore[no-untyped-call]

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        *,
        label: str,
        verb: str | None = None,
        content_type: str = JSON,
    ) -> Object:
        request = _Request(method, path, label, verb or method, query, body, content_type)
        response = await self._send(request, self._timeout)
        try:
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error
        try:
            answer = decode(data) if data else {}
        except orjson.JSONDecodeError as error:
            why = "the answer is not JSON; is this an API server?"
            raise errors.Unavailable(response.status, "NotJSON", why) from error
        return answer if isinstance(answer, dict) else {"items": answer}

    async def _send(self, request: _Request, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        """Sends one request; with an expired login once more after reading the credentials again."""
        response = await self._send_once(request, timeout)
        if response.status == 401 and await self._renew():
            response.release()
            response = await self._send_once(request, timeout)
        if response.status < 400:
            return response
        try:
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            data = b""
        finally:
            response.release()
        raise error_of(response.status, response.headers.get("Retry-After"), data)

    async def _send_once(self, request: _Request, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        url = self._configuration.host + request.path + (f"?{urlencode(request.query)}" if request.query else "")
        began = time.monotonic()
        status = 0
        try:
            headers = {"Accept": JSON, "Content-Type": request.content_type, "User-Agent": FIELD_MANAGER}
            token = await self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
            if token:
                headers["Authorization"] = token
            answer = await self._api.rest_client.request(  # type: ignore[no-untyped-call]
                request.method, url, headers=headers, body=request.body, _request_timeout=timeout
            )
            response: aiohttp.ClientResponse = answer.response
            status = response.status
            return response
        except (aiohttp.ClientError, TimeoutError, OSError, ConfigException) as error:
            raise _unreachable(error) from error
        finally:
            if self._observer:
                self._observer(request.verb, request.label, status, time.monotonic() - began)

    async def _renew(self) -> bool:
        """Takes a fresh token from the configuration's source. False: there is none, or it is the same."""
        if self._reload is None:
            return False
        try:
            fresh = await self._reload()
        except NoCluster:
            return False
        changed = bool(fresh.api_key != self._configuration.api_key)
        self._configuration.api_key = fresh.api_key
        self._configuration.refresh_api_key_hook = fresh.refresh_api_key_hook
        return changed


def path_of(
    resource: Resource, namespace: str | None = None, name: str | None = None, subresource: str | None = None
) -> str:
    """URL path of a collection, an object or a subresource."""
    parts = ["apis" if resource.group else "api", *resource.api_version.split("/")]
    if resource.namespaced and namespace:
        parts += ["namespaces", namespace]
    parts.append(resource.plural)
    parts += [part for part in (name, subresource) if part]
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _event(line: bytes) -> tuple[str, Object]:
    event: dict[str, Any] = decode(line)
    if event["type"] == "ERROR":
        status = event["object"]
        raise error_of(int(status.get("code") or 500), None, orjson.dumps(status))
    return event["type"], event["object"]


def _unreachable(error: BaseException) -> errors.Unavailable:
    return errors.Unavailable(0, type(error).__name__, str(error) or "no answer in time")
