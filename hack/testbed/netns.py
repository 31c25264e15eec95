"""The node's own namespaces and network: what happens in them is not seen by the host, and ends with their processes.

One process (`namespaces`, a sleep) makes a network and a mount namespace; all others of the node enter them. When the
last one is killed, the kernel itself takes away every mount, bridge, iptables rule and interface inside.
"""

import ipaddress
import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed import binaries
from testbed.errors import TestbedError
from testbed.paths import cache_dir
from testbed.processes import Processes

HOLDER = "namespaces"
_LOCK = Path("/run/lock/retinue-testbed-network.lock")
_SUBNETS = range(100, 200)
REPLACED = {"/run": "run", "/var/lib": "var-lib", "/var/log": "var-log"}
"""Folders that the node sees its own version of (below NODE_FOLDER/ns/); kubelet and containerd write to them."""


@dataclass(frozen=True)
class Network:
    """Addresses of one node cluster: all in one 10.N.0.0/16, which the host routes into its namespace."""

    subnet: int

    @property
    def whole(self) -> str:
        """What the host routes to the node, so that it reaches pods and Services itself."""
        return f"10.{self.subnet}.0.0/16"

    @property
    def host_address(self) -> str:
        """The host's end of the cable. Pods reach services of the host here."""
        return f"10.{self.subnet}.0.1"

    @property
    def node_address(self) -> str:
        """The node's end: API server and kubelet listen here."""
        return f"10.{self.subnet}.0.2"

    @property
    def service_cidr(self) -> str:
        """Addresses of Services."""
        return f"10.{self.subnet}.16.0/20"

    @property
    def service_first(self) -> str:
        """The Service `kubernetes`."""
        return f"10.{self.subnet}.16.1"

    @property
    def dns_address(self) -> str:
        """The Service `kube-dns`."""
        return f"10.{self.subnet}.16.10"

    @property
    def pod_cidr(self) -> str:
        """Addresses of the cluster's pods."""
        return f"10.{self.subnet}.64.0/18"

    @property
    def node_pods(self) -> str:
        """Addresses of the one node's pods: the first /24, which the controller manager assigns as well."""
        return f"10.{self.subnet}.64.0/24"


def run(*command: str, given: str | None = None) -> str:
    """Runs one command; TestbedError says what it answered."""
    ran = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise TestbedError(f"{' '.join(command)}: {(ran.stderr or ran.stdout).strip()}")
    return ran.stdout


def enter(processes: Processes) -> list[str]:
    """The command prefix that runs something in the node's namespaces; keeps the process id."""
    record = processes.record(HOLDER)
    if record is None or not record.alive:
        raise TestbedError("the node's namespaces are gone: start the cluster again with ./hack/cluster up --node")
    return ["nsenter", "--target", str(record.pid), "--net", "--mount", "--"]


def create(folder: Path, processes: Processes) -> None:
    """Makes the namespaces and the node's own versions of the folders in REPLACED."""
    for hidden in REPLACED:
        if cache_dir().is_relative_to(hidden):
            raise TestbedError(f"a node cluster cannot live below {hidden}: set RETINUE_CACHE to another folder")
    record = processes.start(
        HOLDER, ["unshare", "--net", "--mount", "--propagation", "private", "--", "sleep", "infinity"]
    )
    until = time.monotonic() + 10
    while not Path(f"/proc/{record.pid}/exe").resolve().name.startswith(("sleep", "coreutils", "busybox")):
        processes.require_alive(HOLDER)
        if time.monotonic() > until:
            raise TestbedError("unshare did not make the node's namespaces within 10 s")
        time.sleep(0.01)
    lines = ["set -e"]
    for target, name in REPLACED.items():
        own = folder / "ns" / name
        own.mkdir(parents=True, exist_ok=True)
        lines.append(f"mount --bind '{own}' {target}")
    lines += ["mkdir -p /run/lock /var/log/containers /var/lib/cni", "ip link set lo up"]
    run(*enter(processes), "sh", "-c", "\n".join(lines))


def connect(processes: Processes, interface: str, network: Network) -> None:
    """Lays the cable between host and node and lets the node forward between it and its pods."""
    holder = processes.record(HOLDER)
    assert holder is not None
    run("ip", "link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
    run("ip", "address", "add", f"{network.host_address}/30", "dev", interface)
    run("ip", "link", "set", interface, "up")
    if not Path("/proc/sys/net/bridge").exists():
        run("modprobe", "br_netfilter")
    inside = [
        "set -e",
        f"ip address add {network.node_address}/30 dev eth0",
        "ip link set eth0 up",
        f"ip route add default via {network.host_address}",
        "sysctl -q -w net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1",
    ]
    run(*enter(processes), "sh", "-c", "\n".join(inside))
    run("ip", "route", "add", network.whole, "via", network.node_address, "dev", interface)


def disconnect(interface: str) -> None:
    """Takes the cable away, if it is there."""
    if Path(f"/sys/class/net/{interface}").exists():
        ran = subprocess.run(["ip", "link", "delete", interface], capture_output=True, text=True, check=False)
        # The kernel takes it away by itself when the namespace ends, so it may be gone between look and deed.
        if ran.returncode != 0 and Path(f"/sys/class/net/{interface}").exists():
            raise TestbedError(f"ip link delete {interface}: {ran.stderr.strip()}")


def allocate_and_connect(processes: Processes, interface: str) -> Network:
    """Connects the node with a subnet that nothing on the host uses. Machine-wide lock: two starts never take one."""
    with binaries.file_lock(_LOCK, "another cluster is being connected"):
        network = Network(choose(_SUBNETS, used_networks()))
        connect(processes, interface, network)
        return network


def used_networks() -> list[str]:
    """Networks of the host's addresses and routes."""
    routes = [entry["dst"] for entry in json.loads(run("ip", "-j", "-4", "route", "show", "table", "all"))]
    addresses = [
        f"{address['local']}/{address['prefixlen']}"
        for link in json.loads(run("ip", "-j", "-4", "address"))
        for address in link.get("addr_info", [])
        if "local" in address
    ]
    return [found for found in [*routes, *addresses] if found != "default"]


def choose(subnets: Sequence[int], used: Sequence[str]) -> int:
    """The first N whose 10.N.0.0/16 overlaps with nothing in use; TestbedError when all are taken."""
    taken = [ipaddress.ip_network(text, strict=False) for text in used]
    for subnet in subnets:
        wanted = ipaddress.ip_network(Network(subnet).whole)
        if not any(wanted.overlaps(network) for network in taken):
            return subnet
    raise TestbedError(
        f"every network from 10.{subnets[0]}.0.0/16 to 10.{subnets[-1]}.0.0/16 overlaps with one in use: see ip route"
    )
