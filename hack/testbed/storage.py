"""The default StorageClass and the process behind it."""

import sys

from testbed import netns
from testbed.controlplane import Layout
from testbed.paths import ROOT
from testbed.processes import Processes

NAME = "storage-provisioner"
CLASS = "local"
PROVISIONER = "retinue.dev/testbed"
VOLUMES = "/var/lib/retinue-volumes"
"""Inside the node's mount namespace."""


def storage_class() -> dict[str, object]:
    """Default class: a volume of exactly the claimed size, made when the first pod that uses it is placed."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROVISIONER,
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
    }


def start(layout: Layout, processes: Processes, node: str) -> None:
    """Starts the provisioner in the node's namespaces: its mounts are seen by kubelet and end with the node."""
    program = [sys.executable, "-m", "testbed.storage_provisioner"]
    arguments = [f"--url={layout.url}", f"--pki={layout.pki}", f"--folder={VOLUMES}", f"--node={node}"]
    environment = ["env", f"PYTHONPATH={ROOT / 'hack'}"]
    processes.start(NAME, [*netns.enter(processes), *environment, *program, *arguments])
