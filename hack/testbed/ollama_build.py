"""Ollama built from its Go module with cgo: a real model server where no image registry can be reached."""

from __future__ import annotations

import platform
import sys
import tarfile
import tempfile
from pathlib import Path

from testbed import versions
from testbed.binaries import file_lock
from testbed.errors import TestbedError
from testbed.gobuild import build
from testbed.paths import bin_dir, cache_dir
from testbed.prepared import require_debian, run, sha256_of
from testbed.versions import Tool


def ensure_ollama() -> Path:
    """The `ollama` binary of the pinned version, built on the first call (about two minutes on two cores)."""
    version = versions.version("ollama")
    target = bin_dir("ollama", version) / "ollama"
    if not target.exists():
        with file_lock(target.parent.parent / ".ollama.lock", "another process builds ollama"):
            if not target.exists():
                _build(version, target)
    return target


def compiler_flags(machine: str, cpu_flags: set[str]) -> str:
    """Flags for the inference kernels: this machine's vector level, since the binary serves only here."""
    if machine != "x86_64":
        return "-O3"
    return "-O3 -march=x86-64-v3" if {"avx2", "fma", "f16c"} <= cpu_flags else "-O3 -march=x86-64-v2"


def _build(version: str, target: Path) -> None:
    require_debian(
        {
            "gcc": "gcc",
            "g++": "g++",
            "/usr/include/nlohmann/json.hpp": "nlohmann-json3-dev",
            "/usr/include/stb/stb_image.h": "libstb-dev",
        }
    )
    stamp = f"-s -w -X github.com/ollama/ollama/version.Version={version}"
    tool = Tool("ollama", version, "ollama", "github.com/ollama/ollama", stamp)
    flags = compiler_flags(platform.machine(), set(Path("/proc/cpuinfo").read_text().split()))
    with tempfile.TemporaryDirectory(prefix="retinue-ollama-") as scratch:
        headers = _miniaudio_headers(Path(scratch))
        cgo = {"CGO_CPPFLAGS": f"-I{headers} -I/usr/include/stb -I/usr/include/nlohmann", "CGO_CFLAGS": flags}
        build(tool, target, {"CGO_ENABLED": "1", "CGO_CXXFLAGS": flags, **cgo})


def _miniaudio_headers(scratch: Path) -> Path:
    """A folder with miniaudio/miniaudio.h, which Ollama's module zip leaves out and Debian does not package."""
    pins = versions.load()["ollama"]
    wanted = f"miniaudio=={pins['miniaudio']}"
    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "miniaudio"]
    run([*download, "-d", scratch, wanted])
    (sdist,) = scratch.glob("miniaudio-*.tar.gz")
    # A fixed place: the path is part of Go's build key, so that an interrupted build can go on with what it has.
    header = cache_dir() / "build" / "ollama-headers" / "miniaudio" / "miniaudio.h"
    header.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(sdist) as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith("/miniaudio/miniaudio.h"))
        content = archive.extractfile(member)
        if content is None:
            raise TestbedError(f"{sdist.name} holds no readable miniaudio.h")
        header.write_bytes(content.read())
    if sha256_of(header) != pins["miniaudio_header_sha256"]:
        raise TestbedError(f"miniaudio.h of {wanted} has SHA-256 {sha256_of(header)}, not the one in versions.toml")
    return header.parent.parent


if __name__ == "__main__":
    print(ensure_ollama())
