"""dist/wheelhouse: every wheel that the image needs, so that building the image needs no network.

The wheels are those of requirements.lock, checked against its hashes and chosen for the image's Python, whatever Python
runs this; and the project's own wheel, built from the working copy.
"""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

from testbed.paths import ROOT, cache_dir
from testbed.prepared import clone_tree, key_of, prepare, remove, run

TARGET = ROOT / "dist" / "wheelhouse"
IMAGE_PYTHON = "3.11"
# Debian bookworm has glibc 2.36: every older tag runs on it.
_GLIBC = ("2_36", "2_35", "2_34", "2_31", "2_28", "2_27", "2_24", "2_17", "2_12", "2_5")


def prepare_wheelhouse() -> Path:
    """Fill dist/wheelhouse anew and return it; locked wheels come from the cache when the lock file has not changed."""
    lock = ROOT / "requirements.lock"
    key = key_of([lock, IMAGE_PYTHON, platform.machine()])
    locked = prepare(cache_dir() / "wheelhouse" / key, "downloading the locked wheels of the image", _download)
    remove(TARGET)
    TARGET.mkdir(parents=True)
    clone_tree(locked, TARGET / "locked", link=lambda file: True)
    shutil.copy2(lock, TARGET / "requirements.lock")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-build-isolation",
    ]
    run([*pip, "--wheel-dir", TARGET / "project", ROOT])
    return TARGET


def image_platforms(machine: str) -> list[str]:
    """pip's names for wheels that run in the image on this processor."""
    legacy = ["manylinux2014", "manylinux2010", "manylinux1"] if machine == "x86_64" else ["manylinux2014"]
    return [f"{tag}_{machine}" for tag in [*(f"manylinux_{version}" for version in _GLIBC), *legacy]]


def _download(target: Path) -> None:
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
    ]
    python = ["--only-binary", ":all:", "--implementation", "cp", "--python-version", IMAGE_PYTHON]
    platforms = [part for tag in image_platforms(platform.machine()) for part in ("--platform", tag)]
    run([*pip, *python, *platforms, "-r", ROOT / "requirements.lock", "-d", target])


if __name__ == "__main__":
    print(prepare_wheelhouse())
