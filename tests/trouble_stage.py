"""A release on the real node with everything at hand that goes wrong with models, and short words to act and look."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from testbed.errors import TestbedError
from testbed.model_registry import ModelRegistry
from testbed.ollama_server import OllamaServer
from testbed.release import Release, condition, is_ready, quick_values, until

Object = dict[str, Any]
TENANT = "workshop"
"""Namespace of the tests' Assistants."""
BASE = "smollm2:135m"
"""Model that serves before the trouble begins."""
HOME = "home"
"""Deployment that is never touched: it keeps a pod of BASE Ready, which the others share."""
CHILDREN = ("statefulsets", "services", "poddisruptionbudgets", "networkpolicies")
PATIENCE = 150.0
"""Seconds after which a state that does not come is a failure; no test asserts how long anything takes."""


def trouble_values(registry: str, external_url: str) -> Object:
    """Values with profiles that cannot work, and an Ollama that retinue does not run."""
    values = quick_values(registry)
    (good,) = values["profiles"]
    too_big = {**good["resources"], "requests": {"cpu": "500", "memory": "256Mi"}}
    values["profiles"] = [
        good,
        {**good, "name": "other-cpu", "slots": 1},
        {**good, "name": "cramped", "storage": {"size": "64Mi"}},
        {**good, "name": "too-big", "resources": too_big},
    ]
    values["defaultProfile"] = good["name"]
    values["externalServers"] = [{"name": "lab", "url": external_url, "slots": 1}]
    return values


class Stage:
    """The installed release, the registry that its models come from, and the Ollama of somebody else."""

    def __init__(
        self, release: Release, registry: ModelRegistry, external: OllamaServer, gateway: str, audit_log: Path
    ) -> None:
        self.release = release
        self.audit_log = audit_log
        self.registry = registry
        self.external = external
        self.gateway = gateway
        self._token = release.token()

    @property
    def models(self) -> str:
        """Namespace of ModelServers and their pods."""
        return self.release.models_namespace

    # What people do ---------------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str) -> str:
        """kubectl with the rights of an administrator."""
        return self.release.kubectl(*arguments)

    def apply(self, *objects: Object) -> None:
        """`kubectl apply` of objects."""
        self.release.kubectl("apply", "-f", "-", stdin="\n---\n".join(json.dumps(obj) for obj in objects))

    def write(self, name: str, model: str = BASE, **spec: Any) -> None:
        """An Assistant and an AssistantDeployment of the same name; `spec` is the deployment's."""
        meta = {"name": name, "namespace": TENANT}
        content = {"model": {"name": model}, "runner": {"numCtx": 2048}, "options": {"maxTokens": 8}}
        deployment = {"assistant": name, "source": {"latest": {}}, **spec}
        self.apply(
            {"apiVersion": "retinue.dev/v1alpha1", "kind": "Assistant", "metadata": meta, "spec": content},
            {"apiVersion": "retinue.dev/v1alpha1", "kind": "AssistantDeployment", "metadata": meta, "spec": deployment},
        )

    def serving(self, name: str, model: str = BASE, **spec: Any) -> Object:
        """The same, waited for until it serves."""
        self.write(name, model, **spec)
        return self.ready(name)

    def patch(self, kind: str, name: str, **spec: Any) -> None:
        """A merge patch of the spec, as `kubectl edit` sends it; None takes a field away."""
        body = json.dumps({"spec": spec})
        self.kubectl("-n", TENANT, "patch", kind, name, "--type=merge", "-p", body)

    def change_model(self, name: str, model: str) -> None:
        """Another model for the Assistant."""
        self.patch("assistant", name, model={"name": model})

    def runtime(self, name: str, **runtime: Any) -> None:
        """Another runtime for the deployment; what is not given goes back to its default."""
        empty = {"profile": None, "sharing": None, "externalServer": None}
        self.patch("assistantdeployment", name, runtime={**empty, **runtime})

    def remove(self, *names: str) -> None:
        """Delete deployments and their Assistants."""
        self.kubectl("-n", TENANT, "delete", "assistantdeployment,assistant", *names, "--ignore-not-found")

    def ask(self, name: str) -> httpx.Response:
        """One question through the gateway."""
        body = {"model": f"{TENANT}/{name}", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
        headers = {"Authorization": f"Bearer {self._token}"}
        return httpx.post(f"{self.gateway}/v1/chat/completions", json=body, headers=headers, timeout=120)

    # What people see --------------------------------------------------------------------------------------------

    def assistant(self, name: str) -> Object:
        """The Assistant as it is now."""
        return self.release.object("assistant", name, TENANT)

    def deployment(self, name: str) -> Object:
        """The AssistantDeployment as it is now."""
        return self.release.object("assistantdeployment", name, TENANT)

    def server(self, name: str) -> Object:
        """A ModelServer by its name."""
        return self.release.object("modelserver", name, self.models)

    def bound(self, name: str) -> Object:
        """The ModelServer that users of the deployment are sent to."""
        return self.server(str(self.deployment(name)["status"]["modelServer"]))

    def coming(self, name: str) -> Object:
        """The ModelServer that the deployment is on its way to; TestbedError when it is on no way."""
        candidate = self.deployment(name)["status"].get("candidate")
        if candidate is None:
            raise TestbedError(f"AssistantDeployment {name} has no candidate")
        return self.server(candidate["modelServer"])

    def pods(self, server: str) -> list[Object]:
        """Pods of a ModelServer that are not leaving."""
        found = self.release.objects("pods", self.models, f"retinue.dev/model-server={server}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def operator_writes(self) -> list[tuple[str, str, str]]:
        """Every write of an operator since the cluster began, except to its Lease, as the API server noted it."""
        user = f"system:serviceaccount:{self.release.namespace}:{self.release.name}-operator"
        found = []
        for line in self.audit_log.read_text().splitlines():
            if user not in line:
                continue
            event = json.loads(line)
            what = event.get("objectRef", {})
            if event["verb"] not in ("get", "list", "watch") and what.get("resource") not in ("leases", None):
                found.append((event["verb"], what["resource"], what.get("name", "")))
        return found

    # What is waited for -----------------------------------------------------------------------------------------

    def seen(self, look: Callable[[], Object], is_there: Callable[[Object], bool], what: str) -> Object:
        """The object once it is so; the failure shows the object as it was last."""
        last: list[Object] = []

        def done() -> bool:
            last[:] = [look()]
            return is_there(last[0])

        try:
            until(done, what, PATIENCE)
        except TestbedError as error:
            status = json.dumps(last[0].get("status"), indent=1) if last else "it cannot be read"
            raise AssertionError(f"{error}; last seen: {status}") from None
        return last[0]

    def ready(self, name: str) -> Object:
        """The deployment once it is Ready for its newest spec and the Assistant's newest one."""

        def settled(obj: Object) -> bool:
            assistant = self.assistant(name)
            status = obj.get("status", {})
            latest = assistant.get("status", {}).get("latestRevision")
            return is_ready(assistant) and is_ready(obj) and status.get("activeRevision") == latest

        return self.seen(lambda: self.deployment(name), settled, f"AssistantDeployment {name} Ready")

    def says(self, look: Callable[[], Object], type_: str, reason: str, status: str = "True") -> str:
        """The message of a condition once it has this reason."""

        def so(obj: Object) -> bool:
            found = condition(obj, type_)
            return found.get("status") == status and found.get("reason") == reason

        return str(condition(self.seen(look, so, f"{type_}={status}/{reason}"), type_)["message"])

    def both_say(self, name: str, type_: str, reason: str) -> str:
        """Waits until the deployment and the server it is on its way to show the same cause; the deployment's words."""
        self.says(lambda: self.coming(name), type_, reason)
        return self.says(lambda: self.deployment(name), type_, reason)

    def still_serves(self, name: str, before: Object) -> None:
        """What served before goes on: the same revision on the same server, and it answers."""
        now = self.deployment(name)["status"]
        assert now["activeRevision"] == before["status"]["activeRevision"]
        assert now["modelServer"] == before["status"]["modelServer"]
        assert condition(self.deployment(name), "Available")["status"] == "True"
        answer = self.ask(name)
        assert answer.status_code == 200, answer.text

    def gone(self, kind: str, name: str, namespace: str | None = None) -> None:
        """Waits until the object does not exist."""
        where = ["-n", namespace or self.models]
        until(
            lambda: not self.kubectl(*where, "get", kind, name, "--ignore-not-found", "-o", "name").strip(),
            f"{kind} {name} gone",
            PATIENCE,
        )

    def nothing_left_of(self, server: str) -> None:
        """Waits until a ModelServer is gone with all it owned."""
        self.gone("modelserver", server)
        for kind in CHILDREN:
            self.gone(kind, server)
        until(lambda: not self.pods(server), f"no pod of {server}", PATIENCE)
        self.gone("persistentvolumeclaim", f"models-{server}-0")
