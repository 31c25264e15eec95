"""Makes a size-limited local volume for each claim of our StorageClass, and removes it when the claim is gone.

A volume is an ext4 file system in a sparse file of the claimed size, mounted through a loop device: a full one answers
ENOSPC as a real disk does. Where loop devices cannot be had it is a tmpfs with the same limit.
"""

import argparse
import json
import re
import ssl
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from testbed.storage import CLASS, PROVISIONER

_SELECTED_NODE = "volume.kubernetes.io/selected-node"
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_SMALLEST = 1024 * 1024
"""Bytes; ext4 cannot be made smaller."""


def size_bytes(quantity: str) -> int:
    """Bytes of a Kubernetes quantity such as `500Mi` or `2G`; ValueError when it is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kMGTm]|[KMGT]i)?", quantity)
    if not found:
        raise ValueError(f"{quantity!r} is no size")
    return int(float(found.group(1)) * _UNITS[found.group(2) or ""])


def wanted(claim: dict[str, Any], node: str) -> bool:
    """Whether this claim waits for a volume of ours on this node."""
    metadata, spec = claim["metadata"], claim["spec"]
    return (
        spec.get("storageClassName") == CLASS
        and not spec.get("volumeName")
        and "deletionTimestamp" not in metadata
        and metadata.get("annotations", {}).get(_SELECTED_NODE) == node
    )


def volume_object(claim: dict[str, Any], path: Path, node: str) -> dict[str, Any]:
    """The PersistentVolume for one claim."""
    metadata = claim["metadata"]
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": volume_name(claim), "annotations": {_PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "accessModes": claim["spec"]["accessModes"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": CLASS,
            "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        },
    }


def volume_name(claim: dict[str, Any]) -> str:
    """Named for the claim's UID, so that a second try finds the first."""
    return f"pvc-{claim['metadata']['uid']}"


class Volumes:
    """The files and mounts behind the volumes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def make(self, name: str, size: int) -> Path:
        """Makes (or finds) a mounted file system of this many bytes and returns where."""
        mount = self._folder / name
        if mount.is_mount():
            return mount
        mount.mkdir(exist_ok=True)
        if not self._mount_file(self._folder / f"{name}.img", mount, max(size, _SMALLEST)):
            _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", str(mount))
        mount.chmod(0o777)
        return mount

    def remove(self, name: str) -> None:
        """Unmounts and deletes; what is not there is no error, a busy mount raises and is tried again."""
        mount, file = self._folder / name, self._folder / f"{name}.img"
        if mount.is_mount():
            _run("umount", str(mount))
        if mount.exists():
            mount.rmdir()
        file.unlink(missing_ok=True)

    @staticmethod
    def _mount_file(file: Path, mount: Path, size: int) -> bool:
        """False when this machine has no loop devices."""
        try:
            if not file.exists():
                unfinished = file.with_suffix(".new")
                with unfinished.open("wb") as sparse:
                    sparse.truncate(size)
                _run("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", str(unfinished))
                unfinished.rename(file)
            _run("mount", "-o", "loop,nosuid,nodev", str(file), str(mount))
            (mount / "lost+found").rmdir()
        except subprocess.CalledProcessError as error:
            print(f"no loop device ({error.stderr.strip()}); using tmpfs", flush=True)
            file.unlink(missing_ok=True)
            return False
        return True


class Provisioner:
    """Compares claims and volumes whenever one changes, and makes or removes what differs."""

    def __init__(self, client: httpx.Client, volumes: Volumes, node: str) -> None:
        self._client = client
        self._volumes = volumes
        self._node = node
        self._changed = threading.Event()

    def run(self) -> None:
        """Works until it is killed."""
        for path in ("/api/v1/persistentvolumeclaims", "/api/v1/persistentvolumes"):
            threading.Thread(target=self._watch, args=(path,), daemon=True).start()
        while True:
            # A failure is tried again after a moment; without one the next look is at the next change.
            settled = self._reconcile()
            self._changed.wait(timeout=None if settled else 1.0)
            self._changed.clear()

    def _watch(self, path: str) -> None:
        while True:
            try:
                version = self._list(path)["metadata"]["resourceVersion"]
                self._changed.set()
                query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "300"}
                with self._client.stream("GET", path, params=query, timeout=httpx.Timeout(10, read=330)) as answer:
                    for _ in answer.iter_lines():
                        self._changed.set()
            except (httpx.HTTPError, ValueError, KeyError) as error:
                print(f"watch of {path}: {error}", flush=True)
                time.sleep(1)

    def _list(self, path: str) -> dict[str, Any]:
        answer = self._client.get(path)
        answer.raise_for_status()
        listed: dict[str, Any] = answer.json()
        return listed

    def _reconcile(self) -> bool:
        settled = True
        try:
            claims = self._list("/api/v1/persistentvolumeclaims")["items"]
            volumes = self._list("/api/v1/persistentvolumes")["items"]
        except (httpx.HTTPError, ValueError) as error:
            print(f"list: {error}", flush=True)
            return False
        for one, act in [(claim, self._provision) for claim in claims if wanted(claim, self._node)] + [
            (volume, self._release) for volume in volumes if _released(volume)
        ]:
            try:
                act(one)
            except (httpx.HTTPError, OSError, ValueError, subprocess.CalledProcessError) as error:
                detail = getattr(error, "stderr", None) or error
                print(f"{act.__name__} {one['metadata']['name']}: {detail}", flush=True)
                settled = False
        return settled

    def _provision(self, claim: dict[str, Any]) -> None:
        name = volume_name(claim)
        path = self._volumes.make(name, size_bytes(claim["spec"]["resources"]["requests"]["storage"]))
        answer = self._client.post("/api/v1/persistentvolumes", json=volume_object(claim, path, self._node))
        if answer.status_code != httpx.codes.CONFLICT:
            answer.raise_for_status()
            print(f"made {name} for {claim['metadata']['namespace']}/{claim['metadata']['name']}", flush=True)

    def _release(self, volume: dict[str, Any]) -> None:
        name = volume["metadata"]["name"]
        self._volumes.remove(name)
        answer = self._client.delete(f"/api/v1/persistentvolumes/{name}")
        if answer.status_code != httpx.codes.NOT_FOUND:
            answer.raise_for_status()
            print(f"removed {name}", flush=True)


def _released(volume: dict[str, Any]) -> bool:
    """Whether a volume of ours has lost its claim for good."""
    ours = volume["metadata"].get("annotations", {}).get(_PROVISIONED_BY) == PROVISIONER
    keep = volume["spec"].get("persistentVolumeReclaimPolicy") != "Delete"
    return bool(ours and not keep and volume.get("status", {}).get("phase") in ("Released", "Failed"))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--url", "--pki", "--folder", "--node"):
        parser.add_argument(name, required=True)
    given = parser.parse_args()
    context = ssl.create_default_context(cafile=f"{given.pki}/ca.crt")
    context.load_cert_chain(f"{given.pki}/admin.crt", f"{given.pki}/admin.key")
    client = httpx.Client(base_url=given.url, verify=context, trust_env=False, timeout=30)
    print(json.dumps({"node": given.node, "folder": given.folder}), flush=True)
    Provisioner(client, Volumes(Path(given.folder)), given.node).run()


if __name__ == "__main__":
    main()
