"""retinue on a cluster, installed by its own chart: what the demo shows and the chart tests check."""

import base64
import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from testbed import binaries
from testbed.errors import TestbedError
from testbed.ports import free_ports
from testbed.progress import say

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "retinue"
Object = dict[str, Any]


class Release:
    """One Helm release of the chart of this checkout."""

    def __init__(
        self,
        kubeconfig: Path | None,
        *,
        context: str | None = None,
        name: str = "retinue",
        namespace: str = "retinue-system",
    ) -> None:
        self.kubeconfig = kubeconfig
        self.context = context
        self.name = name
        self.namespace = namespace

    @property
    def models_namespace(self) -> str:
        """Where model pods run."""
        return f"{self.namespace}-models"

    def install(self, values: Object | None = None, *more: str, timeout: str = "300s") -> None:
        """`helm upgrade --install` with `more` flags, and wait until every role is ready."""
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(values or {}, file)
            file.flush()
            flags = ["--create-namespace", "--values", file.name, "--wait", "--wait-for-jobs", "--timeout", timeout]
            self.helm("upgrade", "--install", self.name, str(CHART), *flags, *more)

    def uninstall(self) -> None:
        """`helm uninstall`: CRDs and what people wrote stay."""
        self.helm("uninstall", self.name, "--wait", "--timeout", "180s")

    def helm(self, *arguments: str) -> str:
        """Run Helm in the release's namespace."""
        command = [str(binaries.ensure("helm")), *arguments, "--namespace", self.namespace]
        if self.kubeconfig is not None:
            command += ["--kubeconfig", str(self.kubeconfig)]
        if self.context:
            command += ["--kube-context", self.context]
        return _run(command)

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl against the release's cluster; `check` False: a refusal is an answer too."""
        return _run([*self.kubectl_command(), *arguments], stdin, check=check)

    def kubectl_command(self) -> list[str]:
        """kubectl with the flags that name the cluster."""
        command = [str(binaries.ensure("kubectl"))]
        if self.kubeconfig is not None:
            command += ["--kubeconfig", str(self.kubeconfig)]
        if self.context:
            command += ["--context", self.context]
        return command

    def objects(self, kind: str, namespace: str | None = None, selector: str | None = None) -> list[Object]:
        """Objects of a kind; namespace None means all namespaces."""
        where = ["-n", namespace] if namespace else ["-A"]
        flags = ["-l", selector] if selector else []
        items: list[Object] = json.loads(self.kubectl("get", kind, *where, *flags, "-o", "json"))["items"]
        return items

    def object(self, kind: str, name: str, namespace: str) -> Object:
        """One object; TestbedError when it does not exist."""
        found: Object = json.loads(self.kubectl("-n", namespace, "get", kind, name, "-o", "json"))
        return found

    def token(self) -> str:
        """The gateway's bearer token."""
        secret = self.object("secret", f"{self.name}-gateway-token", self.namespace)
        return base64.b64decode(secret["data"]["token"]).decode()

    @contextlib.contextmanager
    def forwarded(self, target: str, port: str) -> Iterator[int]:
        """A port on loopback that leads to `target`, for example `service/retinue-gateway`, while it is used."""
        (local,) = free_ports(1)
        command = [*self.kubectl_command(), "-n", self.namespace, "port-forward", target, f"{local}:{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as forward:
            try:
                assert forward.stdout is not None
                line = forward.stdout.readline()
                if "Forwarding from" not in line:
                    raise TestbedError(f"port-forward to {target}: {line}{forward.stdout.read()}")
                yield local
            finally:
                forward.terminate()

    @contextlib.contextmanager
    def gateway(self) -> Iterator[str]:
        """Base URL of the gateway."""
        with self.forwarded(f"service/{self.name}-gateway", "http") as port:
            yield f"http://127.0.0.1:{port}"

    def sql(self, statement: str) -> str:
        """Values that a query on the embedded database gives."""
        pod = f"{self.name}-postgres-0"
        flags = ["-X", "-q", "-t", "-A", "-c", statement]
        shell = ["psql", "-h", "127.0.0.1", "-U", "retinue", "-d", "retinue", *flags]
        inner = 'PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE") exec "$@"'
        return self.kubectl("-n", self.namespace, "exec", pod, "--", "sh", "-c", inner, "psql", *shell)


def until(done: Callable[[], bool], what: str, seconds: float = 180, every: float = 0.5) -> None:
    """Wait for a state of the real cluster; TestbedError says what did not come."""
    stop = time.monotonic() + seconds
    while True:
        with contextlib.suppress(TestbedError):
            if done():
                return
        if time.monotonic() > stop:
            raise TestbedError(f"not within {seconds:.0f} s: {what}")
        time.sleep(every)


def condition(obj: Object, type_: str) -> Object:
    """A condition of an object, empty when it has none of that type."""
    return next((c for c in obj.get("status", {}).get("conditions", []) if c["type"] == type_), {})


def is_ready(obj: Object) -> bool:
    """Ready for the generation that was written last."""
    seen = obj.get("status", {}).get("observedGeneration") == obj["metadata"]["generation"]
    return seen and condition(obj, "Ready").get("status") == "True"


def testbed_values(registry: str, **more: Any) -> Object:
    """Values for a small machine whose models come from the registry of the testbed."""
    small = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}
    values: Object = {
        "modelRegistries": [{"host": registry, "default": True, "insecure": True}],
        "profiles": [
            {
                "name": "small-cpu",
                "image": "ollama/ollama:0.24.0",
                "resources": {"requests": {"cpu": "10m", "memory": "256Mi"}, "limits": {"memory": "3Gi"}},
                "agentResources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
                "storage": {"size": "1Gi"},
                "slots": 2,
                "queue": 8,
            }
        ],
        "operator": {"resources": small},
        "gateway": {"resources": small},
        "postgres": {"embedded": {"resources": small, "storage": {"size": "512Mi"}}},
    }
    return merged(values, more)


def quick_values(registry: str) -> Object:
    """Values of the tests: quick probes, and an unused model server goes after two seconds."""
    health = {"probeSeconds": 1, "generateSeconds": 5, "rowSeconds": 2}
    return testbed_values(registry, models={"unusedSeconds": 2}, health=health)


def merged(base: Object, more: Object) -> Object:
    """`more` laid over `base`, key by key; lists are replaced."""
    result = dict(base)
    for key, value in more.items():
        result[key] = merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
    return result


def _run(command: Sequence[str], stdin: str | None = None, *, check: bool = True) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        what = " ".join(a for a in command[:6] if not a.startswith("/"))
        raise TestbedError(f"{Path(command[0]).name} {what}: {done.stderr.strip() or done.stdout.strip()}")
    if done.stderr.strip():
        say(done.stderr.strip().splitlines()[-1])
    return done.stdout
