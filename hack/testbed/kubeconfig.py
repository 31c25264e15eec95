"""Kubeconfig files with everything inside, so that one file can be copied anywhere."""

import base64
from pathlib import Path

import yaml

from testbed.pki import Pair


def write(path: Path, url: str, authority: Path, client: Pair, cluster: str) -> None:
    """Writes a kubeconfig for one user of one cluster, readable by its owner only."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": cluster, "cluster": {"server": url, "certificate-authority-data": _encoded(authority)}},
        ],
        "users": [
            {
                "name": cluster,
                "user": {"client-certificate-data": _encoded(client.cert), "client-key-data": _encoded(client.key)},
            }
        ],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": cluster}}],
        "current-context": cluster,
    }
    unfinished = path.with_suffix(".new")
    unfinished.touch(mode=0o600)
    unfinished.write_text(yaml.safe_dump(document, sort_keys=False))
    unfinished.rename(path)


def _encoded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
