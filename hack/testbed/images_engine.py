"""The programs that build images: buildah here, Docker or Podman where they run. All three take the same Dockerfile."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from testbed.errors import TestbedError
from testbed.paths import cache_dir
from testbed.prepared import require_debian, run, which

_CACHED_STEPS = 60
ENGINES = ("docker", "podman", "buildah")


class Engine(Protocol):
    """What an image builder can do for us."""

    name: str
    reaches_registries: bool
    """Whether base images and official images come from an image registry, or have to be made here."""

    def build(self, context: Path, tag: str, target: Path) -> None:
        """Build `context`/Dockerfile as `tag` and write a docker archive to `target`."""

    def fetch(self, tag: str, target: Path) -> None:
        """Pull `tag` from its registry and write a docker archive to `target`."""

    def provide_base(self, tag: str, key: str, make: Callable[[], Path]) -> None:
        """See that `FROM tag` finds an image. Where no registry serves it, `make` gives its root file system as a tar.

        `key` names the content, so that a base is imported once and steps on top of it can be cached.
        """


class Buildah:
    """buildah with storage of its own in the cache and chroot isolation: no daemon, no registry, no network."""

    name = "buildah"
    reaches_registries = False

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise TestbedError(
                "images are built here by buildah on a base from debootstrap, which needs root: run as root, or start "
                "Docker or Podman where an image registry can be reached"
            )
        require_debian({"buildah": "buildah"})
        storage = cache_dir() / "containers"
        self._base = ["buildah", "--root", str(storage / "root"), "--runroot", str(storage / "run")]

    def build(self, context: Path, tag: str, target: Path) -> None:
        options = ["--isolation", "chroot", "--pull=never", "--format=docker", "--layers", "--force-rm"]
        # A killed build leaves its working container behind.
        self._run("rm", "--all")
        # Chroot isolation shares buildah's own network, so buildah gets one without any interface: a step that
        # downloads something fails here, whatever this machine could reach.
        run(["unshare", "--net", *self._base, "bud", *options, "--tag", full_name(tag), context])
        self._save(tag, target)

    def fetch(self, tag: str, target: Path) -> None:
        self._run("pull", full_name(tag))
        self._save(tag, target)

    def provide_base(self, tag: str, key: str, make: Callable[[], Path]) -> None:
        label = f"retinue.dev/stand-in={key}"
        if self._run("images", "--quiet", "--filter", f"label={label}", "--filter", f"reference={tag}").strip():
            return
        rootfs = make()
        # Whatever was built on another base is of no use any more.
        self._run("rmi", "--all", "--force")
        container = self._run("from", "scratch").strip()
        try:
            self._run("add", container, str(rootfs), "/")
            path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            self._run("config", "--env", path, "--label", label, container)
            self._run("commit", "-q", "--format=docker", container, tag)
        finally:
            self._run("rm", container)

    def _save(self, tag: str, target: Path) -> None:
        """Write the archive, then drop the image: the archive is what is kept, and cached steps."""
        self._run("push", "-q", full_name(tag), f"docker-archive:{target}:{full_name(tag)}")
        self._run("rmi", full_name(tag))
        if len(self._run("images", "--all", "--quiet").split()) > _CACHED_STEPS:
            self._run("rmi", "--prune")

    def _run(self, *arguments: str) -> str:
        return run([*self._base, *arguments])


class DockerLike:
    """Docker or Podman, whose registries serve base images and official images."""

    reaches_registries = True

    def __init__(self, name: str) -> None:
        self.name = name

    def build(self, context: Path, tag: str, target: Path) -> None:
        run([self.name, "build", "--quiet", "--tag", tag, context])
        self._save(tag, target)

    def fetch(self, tag: str, target: Path) -> None:
        run([self.name, "pull", "--quiet", tag])
        self._save(tag, target)

    def provide_base(self, tag: str, key: str, make: Callable[[], Path]) -> None:
        """Nothing to do: the build pulls it."""

    def _save(self, tag: str, target: Path) -> None:
        run([self.name, "save", "--output", target, tag])


def full_name(tag: str) -> str:
    """`retinue:0.1.0` as a kubelet means it; buildah alone would put `localhost/` in front."""
    first, slash, _ = tag.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return tag
    return f"docker.io/{tag}" if slash else f"docker.io/library/{tag}"


def choose_engine() -> Engine:
    """$RETINUE_IMAGE_ENGINE, else the first of Docker and Podman that answers, else buildah."""
    wanted = os.environ.get("RETINUE_IMAGE_ENGINE")
    if wanted is not None and wanted not in ENGINES:
        raise TestbedError(f"RETINUE_IMAGE_ENGINE is {wanted!r}: set one of {', '.join(ENGINES)}")
    for name in ("docker", "podman"):
        if wanted == name or (wanted is None and _runs(name)):
            return DockerLike(name)
    return Buildah()


def _runs(name: str) -> bool:
    if which(name) is None:
        return False
    try:
        return subprocess.run([name, "info"], capture_output=True, timeout=20, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False
