"""The demo without root: a real control plane and a real Ollama as local processes, no pods.

The Ollama is an external server to retinue, as one that a team already runs would be.
"""

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import yaml
from rich.console import Console

from testbed import binaries
from testbed.cluster import Cluster
from testbed.errors import TestbedError
from testbed.ollama_server import OllamaServer
from testbed.ports import free_ports
from testbed.postgres_server import PostgresServer
from testbed.progress import say
from testbed.release import ROOT, until

NAME = "demo-local"
NAMESPACE = "retinue-system"
MODEL = "smollm2:135m"
SERVER = "local"
console = Console(highlight=False, soft_wrap=True)


def run(question: str) -> None:
    """Show an answer and its health rows, then end everything that was started."""
    console.print(
        "Not root: no pods here. A real control plane; operator, gateway and an Ollama as local processes;\n"
        "the Ollama is an external server. As root the same command runs real model pods."
    )
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="retinue-demo-")))
        ollama = stack.enter_context(OllamaServer(preload=True))
        cluster = Cluster.up_control_plane(NAME, owned=True)
        stack.callback(cluster.down)
        cluster.apply_crds()
        for name in (NAMESPACE, f"{NAMESPACE}-models"):
            cluster.kubectl("create", "namespace", name)
        database = _database(stack, folder)
        environment = _environment(folder, cluster, ollama)
        ports = free_ports(2)
        _start(stack, folder, "operator", {**environment, "RETINUE_OPERATOR_LISTEN": f"127.0.0.1:{ports[0]}"})
        _start(stack, folder, "gateway", {**environment, "RETINUE_GATEWAY_LISTEN": f"127.0.0.1:{ports[1]}"})
        _apply(cluster, ollama)
        flags = ["--kubeconfig", str(cluster.kubeconfig)]
        say("retinue status -n bots --wait")
        _retinue("status", "-n", "bots", "--wait", "--timeout", "120", *flags)
        for kind in ("assistants", "revisions", "deployments"):
            _retinue("get", kind, "-n", "bots", *flags)
        _retinue("get", "modelservers", "-n", f"{NAMESPACE}-models", *flags)
        if database is not None:
            say("health rows, read back from Postgres: retinue db newest bots/helper")
            query = "select count(*) from deployment_health"
            until(lambda: database[0].sql(query, database[1]).strip() != "0", "health rows", 60)
            _retinue("db", "newest", "bots/helper", "--dsn-file", str(folder / "dsn"))
        say(f'retinue chat bots/helper -m "{question}"')
        url = f"http://127.0.0.1:{ports[1]}"
        until(lambda: _answers(f"{url}/readyz"), "the gateway ready", 30)
        _retinue("chat", "bots/helper", "-m", question, "--server", url, "--token-file", str(folder / "token"), *flags)
    say("everything that was started has ended")


def _database(stack: contextlib.ExitStack, folder: Path) -> tuple[PostgresServer, str] | None:
    """A Postgres with the schema, or None where it is not installed: then there is no history."""
    try:
        server = stack.enter_context(PostgresServer())
    except TestbedError as error:
        console.print(f"no history: {error}", markup=False)
        return None
    name = server.new_database()
    (folder / "dsn").write_text(server.dsn(name))
    _retinue("db", "migrate", "up", "--dsn-file", str(folder / "dsn"))
    return server, name


def _environment(folder: Path, cluster: Cluster, ollama: OllamaServer) -> dict[str, str]:
    """Settings of the roles, as the chart would give them."""
    platform = {
        "releaseNamespace": NAMESPACE,
        "modelsNamespace": f"{NAMESPACE}-models",
        "agentImage": "retinue",
        "defaultProfile": "none",
        "profiles": [{"name": "none", "image": "none"}],
        "modelRegistries": [{"host": "registry.ollama.ai", "default": True}],
        "externalServers": [{"name": SERVER, "url": ollama.url}],
        "health": {"probeSeconds": 2, "rowSeconds": 5},
    }
    (folder / "platform.yaml").write_text(yaml.safe_dump(platform))
    (folder / "token").write_text(secrets.token_urlsafe(32))
    (folder / "credential").write_text(secrets.token_urlsafe(32))
    common = {
        "RETINUE_PLATFORM_FILE": str(folder / "platform.yaml"),
        "RETINUE_OPERATOR_NAMESPACE": NAMESPACE,
        "RETINUE_GATEWAY_TOKEN_FILE": str(folder / "token"),
    }
    for role in ("OPERATOR", "GATEWAY"):
        common[f"RETINUE_{role}_KUBECONFIG"] = str(cluster.kubeconfig)
        common[f"RETINUE_{role}_CREDENTIAL_FILE"] = str(folder / "credential")
        if (folder / "dsn").exists():
            common[f"RETINUE_{role}_POSTGRES_DSN_FILE"] = str(folder / "dsn")
    return common


def _start(stack: contextlib.ExitStack, folder: Path, role: str, environment: dict[str, str]) -> None:
    stack.enter_context(_process(folder, role, environment))


@contextlib.contextmanager
def _process(folder: Path, role: str, environment: dict[str, str]) -> Iterator[None]:
    """One role of retinue as a local process, for as long as the demo runs."""
    with (folder / f"{role}.log").open("w") as log:
        command = [str(Path(sys.executable).with_name("retinue")), role]
        with subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log) as process:
            try:
                yield
            finally:
                process.terminate()
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()


def _apply(cluster: Cluster, ollama: OllamaServer) -> None:
    """The quickstart, with the digest of the local model (no registry is asked) and the external server."""
    folder = ROOT / "examples" / "quickstart"
    with urllib.request.urlopen(f"{ollama.url}/api/tags", timeout=10) as response:
        models = {m["name"]: m["digest"] for m in json.load(response)["models"]}
    assistant = yaml.safe_load((folder / "assistant.yaml").read_text())
    assistant["spec"]["model"]["digest"] = f"sha256:{models[MODEL].removeprefix('sha256:')}"
    deployment = yaml.safe_load((folder / "deployment.yaml").read_text())
    deployment["spec"]["runtime"] = {"externalServer": SERVER}
    say("kubectl apply -f examples/quickstart/ (with model.digest and runtime.externalServer)")
    console.print(cluster.kubectl("apply", "-f", str(folder / "00-namespace.yaml")).strip())
    documents = yaml.safe_dump_all([assistant, deployment])
    console.print(cluster.kubectl("apply", "-f", "-", input=documents).strip())


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _retinue(*arguments: str) -> None:
    sys.stdout.flush()
    path = f"{binaries.ensure('kubectl').parent}:{os.environ['PATH']}"
    subprocess.run(
        [str(Path(sys.executable).with_name("retinue")), *arguments], check=True, env={**os.environ, "PATH": path}
    )
