"""What a model registry holds: the prepared data, and pushes made over its HTTP interface as a publisher makes them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx

from testbed.child import Child, free_port
from testbed.errors import TestbedError
from testbed.models import MODELS, model_name
from testbed.ollama_server import OllamaServer, store_key
from testbed.paths import cache_dir
from testbed.prepared import clone_tree, key_of, prepare, which

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class RegistryContent:
    """Reads and pushes models. Names are as in Ollama's own library: `smollm2:135m` means `library/smollm2:135m`."""

    @property
    def url(self) -> str:
        """Base URL of the registry, without a path."""
        raise AttributeError("the running registry says where it is")

    def digest(self, name: str) -> str:
        """`sha256:...` of the manifest of `smollm2:135m`: the digest that Ollama shows after a pull."""
        return self._manifest(name)[1]

    def manifest(self, name: str) -> dict[str, Any]:
        """The manifest of a model."""
        found: dict[str, Any] = json.loads(self._manifest(name)[0])
        return found

    def tag(self, source: str, target: str) -> str:
        """Let `target` name the same content as `source`, as a publisher moves a tag. Returns the digest."""
        content, _ = self._manifest(source)
        origin, goal = _repository(source), _repository(target)
        for digest in self._layers(json.loads(content)) if origin != goal else []:
            mount = {"mount": digest, "from": f"library/{origin}"}
            self._must(
                httpx.post(f"{self.url}/v2/library/{goal}/blobs/uploads/", params=mount), 201, f"mount for {target}"
            )
        return self._put_manifest(target, content)

    def push_variant(
        self, source: str, target: str, *, system: str | None = None, params: dict[str, Any] | None = None
    ) -> str:
        """Push `source` with another system text or other parameters as `target`: same weights, another digest."""
        manifest = self.manifest(source)
        origin = _repository(source)
        if _repository(target) != origin:
            self.tag(source, target)
        texts = {"system": system, "params": None if params is None else json.dumps(params)}
        for kind, text in texts.items():
            if text is not None:
                media = f"application/vnd.ollama.image.{kind}"
                kept = [layer for layer in manifest["layers"] if layer["mediaType"] != media]
                manifest["layers"] = [*kept, self._push_blob(target, media, text.encode())]
        return self._put_manifest(target, json.dumps(manifest).encode())

    def push_broken(self, target: str) -> str:
        """Push a model whose weights end too early: it pulls, its digest fits, and it cannot be loaded."""
        source = model_name("smollm2")
        manifest = self.manifest(source)
        self.tag(source, target)
        media = "application/vnd.ollama.image.model"
        (weights,) = (layer for layer in manifest["layers"] if layer["mediaType"] == media)
        kept = [layer for layer in manifest["layers"] if layer["mediaType"] != media]
        blob = f"{self.url}/v2/library/{_repository(source)}/blobs/{weights['digest']}"
        begin = httpx.get(blob, headers={"Range": f"bytes=0-{4 << 20}"}, follow_redirects=True)
        self._must(begin, 206, f"weights of {source}")
        manifest["layers"] = [self._push_blob(target, media, begin.content), *kept]
        return self._put_manifest(target, json.dumps(manifest).encode())

    def delete(self, name: str) -> None:
        """Remove a tag (with every tag of the same manifest): the model is unknown from now on."""
        model = _repository(name)
        self._must(httpx.delete(f"{self.url}/v2/library/{model}/manifests/{self.digest(name)}"), 202, f"delete {name}")

    def _manifest(self, name: str) -> tuple[bytes, str]:
        answer = httpx.get(self._tag_url(name), headers={"Accept": MANIFEST})
        self._must(answer, 200, f"manifest of {name}")
        return answer.content, answer.headers["Docker-Content-Digest"]

    def _put_manifest(self, name: str, content: bytes) -> str:
        answer = httpx.put(self._tag_url(name), content=content, headers={"Content-Type": MANIFEST})
        self._must(answer, 201, f"push of {name}")
        return answer.headers["Docker-Content-Digest"]

    def _push_blob(self, name: str, media: str, content: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        begun = httpx.post(f"{self.url}/v2/library/{_repository(name)}/blobs/uploads/")
        self._must(begun, 202, f"upload for {name}")
        place = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": digest})
        put = httpx.put(place, content=content, headers={"Content-Type": "application/octet-stream"})
        self._must(put, 201, f"upload for {name}")
        return {"mediaType": media, "digest": digest, "size": len(content)}

    @staticmethod
    def _layers(manifest: dict[str, Any]) -> list[str]:
        return [manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]

    @staticmethod
    def _must(answer: httpx.Response, status: int, what: str) -> None:
        if answer.status_code != status:
            raise TestbedError(
                f"model registry: {what} answered {answer.status_code}, not {status}: {answer.text[:300]}"
            )

    def _tag_url(self, name: str) -> str:
        model, _, tag = name.partition(":")
        return f"{self.url}/v2/library/{model}/manifests/{tag or 'latest'}"


def clone_registry_data(target: Path) -> None:
    """A registry data folder of one's own with both test models; blobs are hard links to the prepared ones."""
    key = key_of([store_key(), "pushed-1"])
    source = prepare(cache_dir() / "model-registry" / key, "pushing the test models to a registry", _make_data)
    clone_tree(source, target, link=lambda file: file.name == "data" and "blobs" in file.parts)


def registry_config(data: Path, address: str, blob_url: str | None) -> str:
    """docker-registry's configuration; JSON is YAML. Without `blob_url` it serves blobs itself."""
    storage = {"filesystem": {"rootdirectory": str(data)}, "delete": {"enabled": True}}
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": storage,
        "http": {"addr": address, "secret": "of no use: one process"},
    }
    if blob_url is not None:
        config["middleware"] = {"storage": [{"name": "redirect", "options": {"baseurl": blob_url}}]}
    return json.dumps(config, indent=1)


def nginx_config(folder: Path, listen: str, *, rate: int, refusal: int) -> str:
    """nginx as the blob server of the registry in `folder`: its data folder, with Range, and the faults in force."""
    fault = f"return {refusal};" if refusal else f"limit_rate {rate};" if rate else ""
    return f"""
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
events {{ worker_connections 512; }}
http {{
  log_format blobs '$status $body_bytes_sent $http_range $uri';
  access_log {folder}/blobs-access.log blobs;
  client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp; fastcgi_temp_path {folder}/tmp;
  uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp;
  default_type application/octet-stream;
  sendfile on;
  server {{
    listen {listen};
    location = /healthz {{ access_log off; return 200; }}
    location / {{ root {folder}/data; {fault} }}
  }}
}}
"""


def _make_data(target: Path) -> None:
    target.mkdir(parents=True)
    address = f"127.0.0.1:{free_port()}"
    server = OllamaServer(preload=True)
    child: Child | None = None
    try:
        server.start()
        config = server.folder / "registry.yml"
        config.write_text(registry_config(target, address, None))
        child = Child(
            [which("docker-registry") or "docker-registry", "serve", config], log=server.folder / "registry.log"
        )
        child.wait_until(lambda: answers(f"http://{address}/v2/"), "answering")
        for key in MODELS:
            name = f"{address}/library/{model_name(key)}"
            server.command("cp", model_name(key), name)
            server.command("push", "--insecure", name)
    finally:
        if child is not None:
            child.stop()
        server.stop()


def _repository(name: str) -> str:
    return name.partition(":")[0]


def answers(url: str) -> bool:
    """Whether a GET answers 200."""
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
