"""Runs the real `retinue operator` as a process of its own against a real API server, and watches what it does."""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from retinue.kube.aio import AioKubeClient, connect
from retinue.kube.errors import NotFound
from retinue.kube.resources import BY_KIND
from testbed.cluster import Cluster
from testbed.ollama_server import OllamaServer
from testbed.ports import free_ports

Object = dict[str, Any]
PATIENCE = 60.0
"""Seconds after which a state that does not come is a failure; no test asserts how long anything takes."""


def platform_of(namespace: str, ollama: OllamaServer | None = None, **over: Any) -> Object:
    """A platform file whose operator sees one tenant namespace and one external server `local`."""
    servers = [{"name": "local", "url": ollama.url, "slots": 2}] if ollama is not None else []
    return {
        "releaseNamespace": f"{namespace}-models",
        "modelsNamespace": f"{namespace}-models",
        "namespaces": [namespace],
        "agentImage": "retinue:0.1.0",
        "defaultProfile": "small-cpu",
        "profiles": [{"name": "small-cpu", "image": "ollama/ollama:0.24.0"}],
        "modelRegistries": [{"host": "registry.invalid", "default": True}],
        "externalServers": servers,
        "health": {"probeSeconds": 1, "generateSeconds": 60},
        "unusedSeconds": 3,
        **over,
    }


class OperatorRig:
    """One operator process and a client beside it. Use as an async context manager."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path, platform: Object) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.models = str(platform["modelsNamespace"])
        self.platform = platform
        self.kubeconfig = str(cluster.kubeconfig)
        """Through which the operator reaches the API server; a test may put a fault proxy in between."""
        self.environment: dict[str, str] = {}
        """More environment variables of the operator."""
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self.log = folder / "operator.log"
        (self.port,) = free_ports(1)
        self.client: AioKubeClient

    async def __aenter__(self) -> "OperatorRig":
        self.client = await connect(str(self.cluster.kubeconfig))
        for name in {self.models, str(self.platform["releaseNamespace"])}:
            await self.client.apply(
                BY_KIND["Namespace"], {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            )
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.stop()
            await self.client.delete(BY_KIND["Namespace"], self.models)
        finally:
            await self.client.close()

    async def start(self) -> None:
        """Starts the process; returns at once."""
        file = self._folder / "platform.yaml"
        file.write_text(yaml.safe_dump(self.platform))
        environment = {
            **os.environ,
            "KUBECONFIG": "/nonexistent",
            "RETINUE_PLATFORM_FILE": str(file),
            "RETINUE_OPERATOR_KUBECONFIG": self.kubeconfig,
            "RETINUE_OPERATOR_LISTEN": f"127.0.0.1:{self.port}",
            **self.environment,
        }
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "retinue", "operator", env=environment, stdout=log, stderr=log
            )

    async def stop(self) -> int | None:
        """Ends the process as Kubernetes does; its exit code."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """Ends the process with SIGKILL."""
        await self._end(signal.SIGKILL)

    def strike(self) -> None:
        """SIGKILL now, from any thread; `kill` still has to take the process in."""
        if self._process is not None and self._process.returncode is None:
            os.kill(self._process.pid, signal.SIGKILL)

    async def _end(self, number: int) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        if process.returncode is None:
            process.send_signal(number)
        return await asyncio.wait_for(process.wait(), PATIENCE)

    async def ended(self) -> int:
        """Waits for the process to end by itself; its exit code."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), PATIENCE)

    def namespace_of(self, kind: str) -> str | None:
        """Where objects of a kind lie in this rig."""
        if not BY_KIND[kind].namespaced:
            return None
        tenant = kind in ("Assistant", "AssistantTemplate", "AssistantRevision", "AssistantDeployment", "ConfigMap")
        return self.namespace if tenant else self.models

    async def apply(self, obj: Object) -> Object:
        """Creates or replaces what a person wrote, as a person would: not as the operator's field manager."""
        resource = BY_KIND[obj["kind"]]
        metadata = {k: v for k, v in obj["metadata"].items() if k in ("name", "labels", "annotations")}
        body: Object = {**obj, "metadata": {**metadata, "namespace": self.namespace_of(obj["kind"])}}
        body.pop("status", None)
        path = f"/apis/{resource.api_version}" if "/" in resource.api_version else f"/api/{resource.api_version}"
        place = f"{path}/namespaces/{body['metadata']['namespace']}/{resource.plural}"
        live = await self.find(obj["kind"], metadata["name"])
        if live is None:
            return await self.client.create(resource, body, body["metadata"]["namespace"])
        body["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        return await self.client.request("PUT", f"{place}/{metadata['name']}", body=body)

    async def find(self, kind: str, name: str) -> Object | None:
        """The live object, or None."""
        try:
            return await self.client.get(BY_KIND[kind], name, self.namespace_of(kind))
        except NotFound:
            return None

    async def get(self, kind: str, name: str) -> Object:
        """The live object."""
        return await self.client.get(BY_KIND[kind], name, self.namespace_of(kind))

    async def all(self, kind: str) -> list[Object]:
        """All live objects of a kind in its namespace of this rig."""
        return (await self.client.list_page(BY_KIND[kind], self.namespace_of(kind))).items

    async def delete(self, kind: str, name: str) -> None:
        """Deletes an object."""
        await self.client.delete(BY_KIND[kind], name, self.namespace_of(kind))

    async def until(self, kind: str, name: str, check: Callable[[Object], bool]) -> Object:
        """Waits until the live object is as `check` wants it."""
        last: Object | None = None

        async def look() -> bool:
            nonlocal last
            last = await self.find(kind, name)
            return last is not None and check(last)

        await eventually(look, lambda: f"{kind} {name} is {yaml.safe_dump((last or {}).get('status'))}\n{self.tail()}")
        assert last is not None
        return last

    async def until_gone(self, kind: str, name: str) -> None:
        """Waits until the object no longer exists."""

        async def look() -> bool:
            return await self.find(kind, name) is None

        await eventually(look, lambda: f"{kind} {name} still exists\n{self.tail()}")

    async def until_condition(self, kind: str, name: str, condition: str, reason: str | None = None) -> Object:
        """Waits until a condition is True (with this reason) for the present generation."""

        def check(obj: Object) -> bool:
            found = conditions(obj).get(condition)
            return (
                found is not None
                and obj["status"].get("observedGeneration") == obj["metadata"]["generation"]
                and found["status"] == "True"
                and reason in (None, found["reason"])
            )

        return await self.until(kind, name, check)

    def tail(self) -> str:
        """The end of the operator's log."""
        return "\n".join(self.log.read_text().splitlines()[-25:])

    async def probe(self, path: str) -> tuple[int, str]:
        """Status and body of a path of the operator's own port."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as reply:
            return reply.status, await reply.text()

    async def writes(self) -> dict[str, float]:
        """Write calls of the running process to the API server, by verb and resource, Lease renewals left out."""
        _, page = await self.probe("/metrics")
        calls = re.findall(r'^retinue_api_calls_total\{code="(\d+)",resource="(\w+)",verb="(\w+)"\} (\S+)$', page, re.M)
        assert calls, page[:500]
        return {
            f"{verb} {resource} {code}": float(count)
            for code, resource, verb, count in calls
            if verb not in ("GET", "LIST", "WATCH") and resource != "leases"
        }

    async def versions(self) -> dict[str, str]:
        """resourceVersion of everything of ours that exists, by kind and name."""
        kinds = ("Assistant", "AssistantTemplate", "AssistantRevision", "AssistantDeployment", "ModelServer")
        children = ("StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy")
        return {
            f"{kind}/{obj['metadata']['name']}": obj["metadata"]["resourceVersion"]
            for kind in (*kinds, *children)
            for obj in await self.all(kind)
        }


def conditions(obj: Object) -> dict[str, Object]:
    """Conditions by type."""
    return {c["type"]: c for c in (obj.get("status") or {}).get("conditions") or []}


def message(obj: Object) -> str:
    """What Ready says."""
    return str(conditions(obj)["Ready"]["message"])


async def eventually(check: Callable[[], Any], explain: Callable[[], str]) -> None:
    """Waits for an async `check` to be true."""
    end = time.monotonic() + PATIENCE
    while not await check():
        if time.monotonic() > end:
            raise AssertionError(explain())
        await asyncio.sleep(0.1)
