"""A whole cluster with one real node in namespaces of its own: start, mend, clear."""

import hashlib
import json
import os
import subprocess
import time
from pathlib import Path

from testbed import binaries, cgroups, cni, containerd, controlplane, dns, kubelet, netns, packages, scratch, storage
from testbed.controlplane import Layout
from testbed.errors import TestbedError
from testbed.netns import Network
from testbed.processes import Processes, start_time
from testbed.progress import say
from testbed.state import State


def identity(folder: Path) -> str:
    """A short name for what belongs to this cluster outside of its folder (interface, cgroup).

    Made from the folder's path, so it is known even when nothing was written down, and two caches never share one.
    """
    return f"rt{hashlib.sha256(str(folder).encode()).hexdigest()[:10]}"


def node_name(name: str) -> str:
    """The Kubernetes name of the node."""
    return f"{name}-node"


def layout(folder: Path, facts: State, processes: Processes) -> Layout:
    """Where the control plane of a node cluster listens."""
    network = Network(facts.subnet)
    holder = processes.record(netns.HOLDER)
    return Layout(
        cluster=facts.name,
        folder=folder,
        address=network.node_address,
        api_port=facts.api_port,
        etcd_port=facts.etcd_port,
        etcd_peer_port=facts.etcd_peer_port,
        service_cidr=network.service_cidr,
        service_first=network.service_first,
        pod_cidr=network.pod_cidr,
        enter=netns.enter(processes) if holder is not None and holder.alive else (),
    )


def start(folder: Path, facts: State, processes: Processes) -> None:
    """A fresh start; returns when the node is Ready and names resolve. Leaves its mess to `clear` when it fails."""
    if os.geteuid() != 0:
        raise TestbedError("a node needs root: run as root, or start only a control plane with up --control-plane")
    packages.ensure_node()
    binaries.ensure_all([*binaries.CONTROL_PLANE, *binaries.NODE])
    # Ports need no search: nothing else lives in the network namespace.
    facts.api_port, facts.etcd_port, facts.etcd_peer_port = 6443, 2379, 2380
    facts.save(folder)
    say(f"making the namespaces and the network of node {node_name(facts.name)}")
    netns.create(folder, processes)
    network = netns.allocate_and_connect(processes, identity(folder))
    facts.subnet = network.subnet
    facts.save(folder)
    cgroups.create(identity(folder))
    say(f"starting containerd and the control plane at {network.node_address}")
    containerd.start(folder, processes, cni.write_config(folder, network))
    place = layout(folder, facts, processes)
    controlplane.start(place, processes)
    say("starting kubelet, kube-proxy, CoreDNS and the volume provisioner")
    kubelet.start(place, processes, network, node_name(facts.name), identity(folder))
    storage.start(place, processes, node_name(facts.name))
    for tool, image in (("pause", scratch.PAUSE), ("coredns", scratch.COREDNS)):
        containerd.load_image(folder, scratch.archive(tool, image))
    objects = {"apiVersion": "v1", "kind": "List", "items": [storage.storage_class(), *dns.manifests(network)]}
    kubectl = [str(binaries.ensure("kubectl")), "--kubeconfig", str(place.admin_kubeconfig)]
    netns.run(*kubectl, "apply", "-f", "-", given=json.dumps(objects))
    wait_ready(place, processes, node_name(facts.name))


def wait_ready(place: Layout, processes: Processes, node: str, patience_seconds: float = 180.0) -> None:
    """Returns when the node is Ready and CoreDNS answers; TestbedError says which of them is not."""
    kubectl = [str(binaries.ensure("kubectl")), "--kubeconfig", str(place.admin_kubeconfig)]
    until = time.monotonic() + patience_seconds
    for what, command in (
        (f"node {node}", ["wait", "--for=condition=Ready", "--timeout=3s", "node", node]),
        # Asked through the API server, because the condition stays True for a while after the kubelet's death.
        (f"the kubelet of {node}", ["get", "--raw", f"/api/v1/nodes/{node}/proxy/healthz"]),
        ("CoreDNS", ["-n", "kube-system", "wait", "--for=condition=Available", "--timeout=3s", "deployment/coredns"]),
    ):
        while (
            ran := subprocess.run([*kubectl, *command], capture_output=True, text=True, check=False)
        ).returncode != 0:
            processes.require_alive(*kubelet.NAMES, containerd.NAME, storage.NAME)
            if time.monotonic() > until:
                raise TestbedError(
                    f"{what} is not ready after {patience_seconds:.0f} s: {ran.stderr.strip()}; end of the "
                    f"kubelet's log:\n{processes.log_tail('kubelet')}"
                )
            time.sleep(0.1)


def namespaces_alive(processes: Processes) -> bool:
    """Whether the process that holds the namespaces lives; without it the node must be made anew."""
    record = processes.record(netns.HOLDER)
    return record is not None and record.alive


def mend(folder: Path, facts: State, processes: Processes) -> list[str]:
    """Starts again what has died; pods survive the death of kubelet and containerd. Returns what was started."""
    place = layout(folder, facts, processes)
    # In the order in which they need each other: a kubelet without its containerd ends itself.
    revived = processes.restart_dead(containerd.NAME)
    containerd.wait_ready(processes)
    revived += processes.restart_dead(*controlplane.NAMES)
    controlplane.wait_ready(place, processes)
    revived += processes.restart_dead()
    if revived:
        wait_ready(place, processes, node_name(facts.name))
    return revived


def pids(folder: Path, known: set[int]) -> set[int]:
    """Processes of the node beyond the known ones: in the same namespaces, or in its cgroups (the containers)."""
    foreign = {space for pid in (1, os.getpid()) for space in _spaces(pid)}
    ours = {space for pid in known for space in _spaces(pid)} - foreign
    found = cgroups.pids(identity(folder))
    if ours:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and ours.intersection(_spaces(int(entry.name))):
                found.add(int(entry.name))
    return {pid for pid in found if start_time(pid) is not None}


def clear(folder: Path) -> None:
    """Removes what a dead node leaves outside of its folder. All its processes must be dead."""
    netns.disconnect(identity(folder))
    cgroups.remove(identity(folder))


def _spaces(pid: int) -> list[str]:
    """Network and mount namespace of a process, as the kernel names them."""
    try:
        return [str(Path(f"/proc/{pid}/ns/{kind}").readlink()) for kind in ("net", "mnt")]
    except OSError:
        return []
