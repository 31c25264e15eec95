"""How people's commands reach the gateway: a given URL, else a port-forward that ends with the command."""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from retinue.cli.cluster import Access, run
from retinue.cli.exits import FALSE, USAGE, CommandError

if TYPE_CHECKING:
    from retinue.kube.client import KubeClient

RELEASE_NAMESPACE = "retinue-system"
"""Where the README installs the chart; other places are named with --release-namespace."""


@contextlib.contextmanager
def gateway_url(access: Access, server: str | None, release: str, release_namespace: str) -> Iterator[str]:
    """Base URL of the gateway; without `server`, `kubectl port-forward` runs for as long as it is used."""
    if server:
        yield server.rstrip("/")
        return
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise CommandError("no kubectl on PATH for the port-forward; install it or give --server URL", USAGE)
    command = [kubectl, *_flags(access), "-n", release_namespace, "port-forward", f"service/{release}-gateway", ":http"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as forward:
        try:
            assert forward.stdout is not None
            line = forward.stdout.readline()
            match = re.search(r"127\.0\.0\.1:(\d+)", line)
            if match is None:
                rest = (line + (forward.stdout.readline() if forward.poll() is None else "")).strip()
                raise CommandError(
                    f"cannot reach the gateway: {rest}. Is the chart installed in {release_namespace}? "
                    "Name another place with --release-namespace, or give --server URL.",
                    FALSE,
                )
            yield f"http://127.0.0.1:{match[1]}"
        finally:
            forward.terminate()


def gateway_token(access: Access, token_file: Path | None, release: str, release_namespace: str) -> str:
    """The gateway's bearer token: from a file, from RETINUE_TOKEN, else from its Secret if the caller may read it."""
    if token_file is not None:
        try:
            return token_file.read_text().strip()
        except OSError as error:
            raise CommandError(f"--token-file {token_file}: {error.strerror}", USAGE) from None
    if token := os.environ.get("RETINUE_TOKEN"):
        return token
    import base64

    from retinue.kube.resources import SECRET

    name = f"{release}-gateway-token"

    async def read(client: "KubeClient") -> str:
        secret = await client.get(SECRET, name, release_namespace)
        return base64.b64decode(secret["data"]["token"]).decode()

    try:
        return run(access, read)
    except CommandError as error:
        raise CommandError(
            f"no token: set RETINUE_TOKEN or give --token-file (reading Secret {release_namespace}/{name}: {error})",
            error.code,
        ) from None


def _flags(access: Access) -> list[str]:
    flags = []
    if access.kubeconfig:
        flags += ["--kubeconfig", access.kubeconfig]
    if access.context:
        flags += ["--context", access.context]
    return flags
