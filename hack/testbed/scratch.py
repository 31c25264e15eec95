"""Images that hold one static program and nothing else: pause, CoreDNS and the tests' probe."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

from testbed import binaries, versions
from testbed.paths import bin_dir

PAUSE = f"retinue.dev/testbed/pause:{versions.version('pause')}"
PROBE = f"retinue.dev/testbed/probe:{versions.version('probe')}"
COREDNS = f"retinue.dev/testbed/coredns:{versions.version('coredns')}"


def archive(tool: str, image: str) -> Path:
    """The image of one built binary as a docker-archive file; made once per version."""
    target = bin_dir(tool, versions.tool(tool).version) / f"{tool}.image.tar"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(".new")
        write(unfinished, image, binaries.ensure(tool))
        unfinished.rename(target)
    return target


def write(target: Path, image: str, program: Path) -> None:
    """Writes a docker-archive whose only file is the program, run as its entrypoint by a non-root user."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as content:
        entry = tarfile.TarInfo(program.name)
        entry.mode, entry.size = 0o755, program.stat().st_size
        with program.open("rb") as source:
            content.addfile(entry, source)
    data = layer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": [f"/{program.name}"], "User": "65532:65532"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [image], "Layers": [f"{digest}.tar"]}]).encode()
    with tarfile.open(target, mode="w") as file:
        for name, part in ((f"{digest}.tar", data), (config_name, config), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(name)
            entry.size = len(part)
            file.addfile(entry, io.BytesIO(part))
