"""File systems of images where no image registry can be reached: from Debian packages and from our own builds."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from testbed import versions
from testbed.errors import TestbedError
from testbed.ollama_build import ensure_ollama
from testbed.paths import cache_dir
from testbed.prepared import remove, require_debian, run

# Nothing in a container reads these, and they are two thirds of a minimal Debian.
_UNUSED = (
    "var/cache/apt/*",
    "var/lib/apt/lists/*",
    "var/cache/debconf/*-old",
    "var/log/*.log",
    "usr/share/doc/*",
    "usr/share/man/*",
    "usr/share/info/*",
    "usr/share/locale/*",
    "usr/share/lintian/*",
)
POSTGRES_ID = 999


def python_base(target: Path) -> None:
    """Write `target`, a tar of a minimal Debian with Python: stands in for the Dockerfile's base image."""
    packages = list(versions.load()["debian"]["include"])
    _from_debian(target, packages, lambda root: None)


def postgres(target: Path) -> None:
    """Write `target`, a tar of a minimal Debian with PostgreSQL 15, laid out like the official image."""
    _from_debian(target, ["postgresql-15"], _lay_out_postgres)


def ollama(target: Path) -> None:
    """Write `target`, a tar of the ollama binary and the little that it needs: its libraries, CA certificates, /tmp."""
    require_debian({"/etc/ssl/certs/ca-certificates.crt": "ca-certificates"})
    root = target.with_name(f"{target.name}.rootfs")
    remove(root)
    for folder in ("usr/bin", "usr/lib", "usr/lib64", "etc/ssl/certs", "root", "var"):
        (root / folder).mkdir(parents=True)
    for link in ("bin", "lib", "lib64"):
        (root / link).symlink_to(f"usr/{link}")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    binary = ensure_ollama()
    shutil.copy(binary, root / "usr/bin/ollama")
    for library in shared_libraries(run(["ldd", binary])):
        place = root / library.relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library.resolve(), place)
    shutil.copy(Path("/etc/ssl/certs/ca-certificates.crt").resolve(), root / "etc/ssl/certs/ca-certificates.crt")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/sbin/nologin\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    _pack(root, target)


def shared_libraries(ldd_output: str) -> list[Path]:
    """The files that `ldd` names; raises if one was not found."""
    missing = re.findall(r"^\s*(\S+) => not found", ldd_output, re.MULTILINE)
    if missing:
        raise TestbedError(f"ollama needs libraries that this machine lacks: {', '.join(missing)}")
    return [Path(path) for path in re.findall(r"(?:=>\s*|^\s*)(/\S+)\s+\(0x", ldd_output, re.MULTILINE)]


def _from_debian(target: Path, packages: Sequence[str], finish: Callable[[Path], None]) -> None:
    require_debian({"debootstrap": "debootstrap"})
    root = target.with_name(f"{target.name}.rootfs")
    remove(root)
    downloads = cache_dir() / "debootstrap"
    downloads.mkdir(parents=True, exist_ok=True)
    options = ["--variant=minbase", f"--include={','.join(packages)}", f"--cache-dir={downloads}"]
    mirror = [os.environ["RETINUE_DEBIAN_MIRROR"]] if "RETINUE_DEBIAN_MIRROR" in os.environ else []
    suite = str(versions.load()["debian"]["suite"])
    # Its own mount namespace: debootstrap mounts /proc in the tree, and a killed run must not leave that behind.
    run(["unshare", "--mount", "--propagation=private", "debootstrap", *options, suite, root, *mirror])
    finish(root)
    for pattern in _UNUSED:
        for path in root.glob(pattern):
            remove(path)
    _pack(root, target)


def _lay_out_postgres(root: Path) -> None:
    old = _id_of(root / "etc/passwd", "postgres")
    chroot = ["chroot", str(root)]
    run([*chroot, "usermod", "--uid", str(POSTGRES_ID), "--home", "/var/lib/postgresql", "postgres"])
    run([*chroot, "groupmod", "--gid", str(POSTGRES_ID), "postgres"])
    # The package made a database of its own; the entrypoint makes the one that is asked for.
    for unwanted in ("var/lib/postgresql", "etc/postgresql", "run/postgresql", "var/log/postgresql"):
        remove(root / unwanted)
    for path, mode in (("var/lib/postgresql", 0o755), ("var/lib/postgresql/data", 0o777), ("run/postgresql", 0o3777)):
        (root / path).mkdir(parents=True)
        (root / path).chmod(mode)
        os.chown(root / path, POSTGRES_ID, POSTGRES_ID)
    (root / "docker-entrypoint-initdb.d").mkdir()
    # Just-in-time compilation is optional, and its compiler is bigger than all the rest.
    for pattern in ("usr/lib/postgresql/15/lib/llvmjit.so", "usr/lib/postgresql/15/lib/bitcode", "usr/lib/*/libLLVM-*"):
        for found in root.glob(pattern):
            remove(found)
    for folder, _, names in os.walk(root):
        for name in names:
            if os.lstat(Path(folder) / name).st_uid == old:
                os.chown(Path(folder) / name, POSTGRES_ID, POSTGRES_ID, follow_symlinks=False)


def _id_of(passwd: Path, user: str) -> int:
    for line in passwd.read_text().splitlines():
        fields = line.split(":")
        if fields[0] == user:
            return int(fields[2])
    raise TestbedError(f"{passwd} has no user {user}: the package did not make it")


def _pack(root: Path, target: Path) -> None:
    run(["tar", "--numeric-owner", "--sort=name", "-C", root, "-cf", target, "."])
    remove(root)
