"""A model registry as real as the one that models usually come from: Debian's docker-registry, blobs by nginx.

Ollama downloads a blob in parts from where the registry redirects it, and it only accepts a redirect to another host
name. So the registry answers manifests itself and redirects every blob to nginx, which serves the registry's data
folder with Range support under another name for the same machine.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.child import Child, free_port, run_folder
from testbed.errors import TestbedError
from testbed.model_registry_content import RegistryContent, answers, clone_registry_data, nginx_config, registry_config
from testbed.prepared import require_debian, which
from testbed.processes import MARK, kill_all, start_time


class ModelRegistry(RegistryContent):
    """Holds `library/smollm2:135m` and `library/gemma3:270m`. Plain HTTP: pull with `insecure: true`.

    Faults act on the real servers: blobs can be slowed down, cut off in the middle, refused; manifests can hang.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        *,
        port: int | None = None,
        blob_port: int | None = None,
        cluster_folder: Path | None = None,
    ) -> None:
        """`host`: the IPv4 address to listen on; for pods that of the host side of their cluster's network.

        `cluster_folder`: makes the registry a part of that cluster. It outlives this process, its data lie in the
        cluster's folder, and the cluster's `down` ends it.
        """
        require_debian({"docker-registry": "docker-registry", "nginx": "nginx-light"})
        self.host = host
        self.port = port or free_port(host)
        self.blob_port = blob_port or free_port(host)
        self._cluster = cluster_folder
        self.folder = cluster_folder / "model-registry" if cluster_folder else run_folder("model-registry")
        self._registry: Child | None = None
        self._blobs: Child | None = None
        self._rate = 0
        self._refusal = 0

    @property
    def address(self) -> str:
        """host:port, to put before a model name: `<address>/library/smollm2:135m`."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Base URL without a path."""
        return f"http://{self.address}"

    @property
    def blob_url(self) -> str:
        """Where blobs are redirected: the same machine under another host name, or Ollama would not follow.

        On loopback that is the next address; elsewhere the IPv4-mapped form of the same address.
        """
        if self.host.startswith("127."):
            return f"http://{self._blob_host()}:{self.blob_port}"
        return f"http://[::ffff:{self.host}]:{self.blob_port}"

    def start(self) -> Self:
        """Start both servers on a clone of the prepared data; a second start keeps what was pushed.

        Servers of the same cluster that an earlier process started are ended first.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._end_earlier()
        data = self.folder / "data"
        if not data.exists():
            clone_registry_data(data)
        config = self.folder / "registry.yml"
        config.write_text(registry_config(data, self.address, self.blob_url))
        try:
            self._registry = self._run([which("docker-registry") or "docker-registry", "serve", config], "registry.log")
            self._registry.wait_until(lambda: answers(f"{self.url}/v2/"), "answering")
            self._start_blobs()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End both servers and remove the folder."""
        for child in (self._blobs, self._registry):
            if child is not None:
                child.stop()
        self._blobs = self._registry = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def slow_blobs(self, bytes_per_second: int) -> None:
        """Limit each blob connection, from the next one on; 0 takes the limit away."""
        self._rate = bytes_per_second
        self._reload_blobs()

    def refuse_blobs(self, status: int) -> None:
        """Answer each blob request with this HTTP status; 0 serves blobs again."""
        self._refusal = status
        self._reload_blobs()

    def cut_blobs(self) -> None:
        """Break every blob download in the middle; further ones are refused until resume_blobs()."""
        self._child(self._blobs).kill()

    def resume_blobs(self) -> None:
        """Serve blobs again, without limit and refusal, after any of the faults."""
        self._rate = self._refusal = 0
        if self._child(self._blobs).alive():
            self._reload_blobs()
        else:
            self._start_blobs()

    def freeze(self) -> None:
        """SIGSTOP to the registry (not to the blob server): manifests hang."""
        self._child(self._registry).freeze()

    def thaw(self) -> None:
        """Let a frozen registry go on."""
        self._child(self._registry).thaw()

    def blob_requests(self) -> list[str]:
        """The blob server's access log: one line `status bytes range path` per finished request."""
        log = self.folder / "blobs-access.log"
        return log.read_text().splitlines() if log.exists() else []

    def _start_blobs(self) -> None:
        listen = f"{self._blob_host()}:{self.blob_port}"
        config = self.folder / "nginx.conf"
        config.write_text(nginx_config(self.folder, listen, rate=self._rate, refusal=self._refusal))
        nginx = which("nginx") or "nginx"
        log = self.folder / "nginx.log"
        self._blobs = self._run([nginx, "-c", config, "-p", self.folder, "-e", log], "nginx.log")
        self._blobs.wait_until(lambda: answers(f"http://{listen}/healthz"), "answering")

    def _run(self, command: list[str | Path], log: str) -> Child:
        env = {"PATH": os.environ["PATH"]}
        if self._cluster is not None:
            child = Child(command, log=self.folder / log, env={**env, MARK: str(self._cluster)}, detached=True)
            (self.folder / f"{log}.pid").write_text(f"{child.pid} {start_time(child.pid)}")
            return child
        return Child(command, log=self.folder / log, env=env, remove=self.folder)

    def _end_earlier(self) -> None:
        """End what an earlier process has left running in this folder; numbers that were given anew are left alone."""
        for note in self.folder.glob("*.log.pid"):
            pid, _, started = note.read_text().partition(" ")
            if started and str(start_time(int(pid))) == started:
                kill_all([int(pid)])
            note.unlink()

    def _reload_blobs(self) -> None:
        # A new process, because only then it is sure that the next request meets the new rules.
        self._child(self._blobs).stop(signal.SIGQUIT, seconds=0.2)
        self._start_blobs()

    def _blob_host(self) -> str:
        return "127.0.0.2" if self.host == "127.0.0.1" else self.host

    def _child(self, child: Child | None) -> Child:
        if child is None:
            raise TestbedError("this model registry is not running: call start() first")
        return child

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
