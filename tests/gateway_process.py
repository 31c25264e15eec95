"""A real gateway process for tests, with the files that the chart would mount."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from retinue.domain.route_snapshot import write_snapshot
from retinue.domain.routing import RouteObjects
from testbed.ports import free_ports

TOKEN = "test-token-of-the-gateway"
CREDENTIAL = "test-credential-of-the-data-plane"
MODELS_NAMESPACE = "retinue-models"
START_SECONDS = 30


def platform(external: Mapping[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    """A platform file with these external servers (name to URL)."""
    return {
        "agentImage": "retinue:test",
        "modelsNamespace": MODELS_NAMESPACE,
        "defaultProfile": "small-cpu",
        "profiles": [{"name": "small-cpu", "image": "ollama/ollama:0.24.0"}],
        "modelRegistries": [{"host": "registry.test", "default": True}],
        "externalServers": [{"name": name, "url": url} for name, url in (external or {}).items()],
        **fields,
    }


@dataclass
class GatewayProcess:
    """One gateway with its own folder. Without a kubeconfig its API server is away and it lives on its snapshot."""

    folder: Path
    platform: dict[str, Any] = field(default_factory=platform)
    kubeconfig: Path | None = None
    env: dict[str, str] = field(default_factory=dict)
    credential: str = CREDENTIAL
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def snapshot(self) -> Path:
        """Where it keeps its routes."""
        return self.folder / "snapshot" / "routes.json"

    @property
    def log(self) -> str:
        """Everything that it has written."""
        return (self.folder / "log").read_text()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running process."""
        assert self._process is not None
        return self._process

    def write_snapshot(self, objects: RouteObjects) -> None:
        """Leave routes behind, as an earlier process would have done."""
        self.snapshot.parent.mkdir(parents=True, exist_ok=True)
        self.snapshot.write_bytes(write_snapshot(objects))

    def start(self, *, wait: bool = True) -> None:
        """Start it and wait until it says that it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "platform.yaml").write_text(yaml.safe_dump(self.platform))
        (self.folder / "token").write_text(TOKEN)
        (self.folder / "credential").write_text(self.credential)
        self.port = self.port or free_ports(1)[0]
        env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("KUBERNETES_", "RETINUE_GATEWAY_"))},
            "RETINUE_PLATFORM_FILE": str(self.folder / "platform.yaml"),
            "RETINUE_GATEWAY_LISTEN": f"127.0.0.1:{self.port}",
            "RETINUE_GATEWAY_KUBECONFIG": str(self.kubeconfig or self._no_cluster()),
            "RETINUE_GATEWAY_TOKEN_FILE": str(self.folder / "token"),
            "RETINUE_GATEWAY_CREDENTIAL_FILE": str(self.folder / "credential"),
            "RETINUE_GATEWAY_SNAPSHOT_PATH": str(self.snapshot),
            "RETINUE_GATEWAY_DRAIN_DELAY_SECONDS": "0",
            **self.env,
        }
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "retinue.cli.main", "gateway"], env=env, stdout=log, stderr=subprocess.STDOUT
            )
        if wait:
            self.wait_until(lambda: self._ready(), "is not ready")

    def wait_until(self, true: Any, what: str, seconds: float = START_SECONDS) -> None:
        """Poll a condition; fails with the log when it does not come true, or when the process has ended."""
        deadline = time.monotonic() + seconds
        while not true():
            assert self.process.poll() is None, f"the gateway has ended:\n{self.log}"
            assert time.monotonic() < deadline, f"the gateway {what} after {seconds} s:\n{self.log}"
            time.sleep(0.05)

    def stop(self) -> int:
        """SIGTERM; returns the exit code when it has ended."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def end(self) -> None:
        """Make sure that it is gone, however the test ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def client(self, token: str | None = TOKEN, **options: Any) -> httpx.Client:
        """An HTTP client that knows the token."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120, **options)

    def metric(self, start: str) -> float:
        """Sum of all samples whose line begins with `start`."""
        with self.client() as client:
            lines = client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _no_cluster(self) -> Path:
        path = self.folder / "kubeconfig"
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "away", "cluster": {"server": f"http://127.0.0.1:{free_ports(1)[0]}"}}],
                    "users": [{"name": "away", "user": {}}],
                    "contexts": [{"name": "away", "context": {"cluster": "away", "user": "away"}}],
                    "current-context": "away",
                }
            )
        )
        return path


@contextlib.contextmanager
def running(gateway: GatewayProcess) -> Iterator[GatewayProcess]:
    """The gateway, started and ended."""
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.end()


def chat(content: str | Sequence[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """A chat request with one user message."""
    return {"messages": [{"role": "user", "content": content}], **fields}
