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


def names_of(release: str) -> str:
    """How the names of a release's objects begin: as the chart's `retinue.fullname` says."""
    whole = release if "retinue" in release else f"{release}-retinue"
    return whole[:40].removesuffix("-")


@contextlib.contextmanager
def gateway_url(access: Access, server: str | None, release: str, release_namespace: str) -> Iterator[str]:
    """Base URL of the gateway; without `server`, `kubectl port-forward` runs for as long as it is used."""
    if server:
        yield server.rstrip("/")
        return
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise CommandError("no kubectl on PATH for the port-forward; install it or give --server URL", USAGE)
    context = ["--context", access.context] if access.context else []
    service = f"service/{names_of(release)}-gateway"
    command = [kubectl, *context, "-n", release_namespace, "port-forward", service, ":http"]
    # Not as a flag: the variable may list several files, the flag takes one.
    environment = {**os.environ, **({"KUBECONFIG": access.kubeconfig} if access.kubeconfig else {})}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as forward:
        try:
            assert forward.stdout is not None
            line = forward.stdout.readline()
            match = re.search(r"^Forwarding from 127\.0\.0\.1:(\d+) ", line)
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

    name = f"{names_of(release)}-gateway-token"

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
