"""A real Ollama as a local process on loopback, with a models folder of its own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from testbed import versions
from testbed.child import Child, free_port, run_folder
from testbed.errors import TestbedError
from testbed.models import MODELS, ensure_model, model_name
from testbed.ollama_build import ensure_ollama
from testbed.paths import cache_dir
from testbed.prepared import clone_tree, key_of, prepare, run

# SmolLM2 speaks ChatML; the text is written out so that the store does not depend on what Ollama guesses from the GGUF.
_CHATML = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
_MODELFILES = {
    "smollm2": f'FROM {{file}}\nTEMPLATE """{_CHATML}"""\nPARAMETER stop <|im_start|>\nPARAMETER stop <|im_end|>\n',
    "gemma3": "FROM {file}\n",
}


class OllamaServer:
    """`ollama serve` on a local port. `preload` puts both test models into its store first (no download)."""

    def __init__(
        self,
        *,
        preload: bool = False,
        host: str = "127.0.0.1",
        port: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """`host`: the address to listen on; for pods that of the host side of their cluster's network.

        `env` adds to or replaces the server's environment, for example {"OLLAMA_NUM_PARALLEL": "2"}.
        """
        self.host = host
        self.port = port or free_port(host)
        self.folder = run_folder("ollama")
        self.models = self.folder / "models"
        self._env = dict(env or {})
        self._preload = preload
        self._child: Child | None = None

    @property
    def address(self) -> str:
        """host:port."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Base URL without a path."""
        return f"http://{self.address}"

    @property
    def child(self) -> Child:
        """The running process: freeze, thaw, kill, tail."""
        if self._child is None:
            raise TestbedError("this Ollama is not running: call start() first")
        return self._child

    def environment(self) -> dict[str, str]:
        """What `ollama` needs to talk to this server, for the server and for its command line alike."""
        wanted = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self.folder),
            "OLLAMA_HOST": self.address,
            "OLLAMA_MODELS": str(self.models),
            "OLLAMA_KEEP_ALIVE": "-1",
            "OLLAMA_CONTEXT_LENGTH": "4096",
            "OLLAMA_MAX_LOADED_MODELS": "1",
            "OLLAMA_NOPRUNE": "1",
            "OLLAMA_NO_CLOUD": "1",
        }
        return wanted | self._env

    def start(self) -> Self:
        """Start (again); returns when /api/version answers. The store of an earlier start is kept."""
        binary = ensure_ollama()
        if not self.models.exists():
            if self._preload:
                clone_tree(model_store(), self.models, link=lambda file: file.parent.name == "blobs")
            self.models.mkdir(exist_ok=True)
        self._child = Child(
            [binary, "serve"], log=self.folder / "ollama.log", env=self.environment(), remove=self.folder
        )
        try:
            self._child.wait_until(self._answers, "answering")
        except BaseException:
            self.stop()
            raise
        return self

    def kill(self) -> None:
        """SIGKILL to server and runners; the store stays, start() brings the server back on the same port."""
        self.child.kill()

    def freeze(self) -> None:
        """SIGSTOP to server and runners: connections stay open, nothing answers."""
        self.child.freeze()

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self.child.thaw()

    def stop(self) -> None:
        """End the server and remove its folder."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, *arguments: str | Path) -> str:
        """Run the `ollama` command line against this server and return its stdout."""
        return run([ensure_ollama(), *arguments], env=self.environment())

    def load(self, model: str) -> None:
        """Load a model and leave it loaded, as a request without a prompt does."""
        answer = httpx.post(f"{self.url}/api/generate", json={"model": model, "keep_alive": -1}, timeout=120)
        if answer.status_code != 200:
            raise TestbedError(f"loading {model} answered {answer.status_code}: {answer.text[:300]}")

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/api/version", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def store_key() -> str:
    """Content key of the prepared model store: another Ollama, model or Modelfile makes another one."""
    pins = versions.load()
    models = [f"{key}={pins['models'][key]['sha256']}" for key in MODELS]
    return key_of([str(pins["ollama"]["version"]), "portable manifests", *models, *_MODELFILES.values()])


def model_store() -> Path:
    """A models folder with both test models, made once. Clone it, never serve from it: Ollama writes to its store."""
    return prepare(cache_dir() / "model-store" / store_key(), "making the store of test models", _make_store)


def portable_manifest(content: bytes) -> bytes:
    """A created model's manifest as its publisher's registry would hold it: the same bytes on every machine.

    Ollama notes in it from which local file the weights came, and ends it with a newline that a push leaves out; so the
    digest of a model that was created would differ from the one that was pulled.
    """
    manifest = json.loads(content)
    for layer in [manifest["config"], *manifest["layers"]]:
        layer.pop("from", None)
    return json.dumps(manifest, separators=(",", ":")).encode()


def _make_store(target: Path) -> None:
    server = OllamaServer()
    try:
        server.start()
        for key in MODELS:
            modelfile = server.folder / f"{key}.modelfile"
            modelfile.write_text(_MODELFILES[key].replace("{file}", str(ensure_model(key))))
            server.command("create", model_name(key), "-f", modelfile)
        server.child.stop()
        for manifest in server.models.glob("manifests/*/*/*/*"):
            manifest.write_bytes(portable_manifest(manifest.read_bytes()))
        shutil.copytree(server.models, target)
    finally:
        server.stop()
