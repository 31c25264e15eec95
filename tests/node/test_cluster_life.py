"""Clusters live side by side, survive the death of their parts, and leave nothing when they go, however they died."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed import cgroups, netns, node, scratch, state
from testbed.cluster import Cluster
from testbed.paths import ROOT, clusters_dir
from testbed.processes import kill_all, marked

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "lives"},
    "spec": {
        "containers": [{"name": "main", "image": scratch.PROBE, "imagePullPolicy": "Never", "args": ["serve", ":8080"]}]
    },
}


def traces(cluster: Cluster) -> list[str]:
    """Everything on this machine that belongs to a cluster: empty when it is gone."""
    folder = cluster.folder
    identity = node.identity(folder)
    found = [f"process {pid}" for pid in marked(folder) | node.pids(folder, marked(folder))]
    found += [f"interface {identity}"] if Path(f"/sys/class/net/{identity}").exists() else []
    mountinfo = Path("/proc/self/mountinfo").read_text()
    found += [f"cgroup {at}/{identity}" for _, at in cgroups.hierarchies(mountinfo) if (at / identity).exists()]
    tables = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
    loops = subprocess.run(["losetup", "--list", "--noheadings"], capture_output=True, text=True, check=True).stdout
    for kind, text, sign in (
        ("mount", mountinfo, str(folder)),
        ("loop device", loops, f"/{cluster.name}/"),
        ("iptables rule", tables, "KUBE-"),
        ("route", netns.run("ip", "route"), identity),
    ):
        found += [f"{kind} {line}" for line in text.splitlines() if sign in line]
    return found + ([f"folder {folder}"] if folder.exists() else [])


@pytest.fixture
def cluster_named() -> Iterator[Callable[[str], Cluster]]:
    """Gives clusters with names of this test run, and ends them whatever happened."""
    made: list[Cluster] = []

    def named(suffix: str) -> Cluster:
        made.append(Cluster(f"life-{os.getpid()}-{suffix}"))
        return made[-1]

    yield named
    for cluster in made:
        cluster.down()


def run_pod(cluster: Cluster) -> str:
    """Starts the pod and returns the id of its container."""
    cluster.load_image(scratch.archive("probe", scratch.PROBE))
    cluster.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=60s")
    cluster.kubectl("create", "-f", "-", input=json.dumps(POD))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/lives", "--timeout=120s")
    return container(cluster)


def container(cluster: Cluster) -> str:
    """Id of the container that runs in the pod."""
    return cluster.kubectl("get", "pod", "lives", "-o", "jsonpath={.status.containerStatuses[0].containerID}")


def test_a_killed_cluster_does_not_harm_its_neighbour(cluster_named: Callable[[str], Cluster]) -> None:
    first, second = cluster_named("a"), cluster_named("b")
    Cluster.up_node(first.name, owned=True)
    Cluster.up_node(second.name, owned=True)
    assert first.facts.subnet != second.facts.subnet
    run_pod(first)
    kept = run_pod(second)
    kill_all(record.pid for record in first.processes.records())
    assert container(second) == kept
    assert second.kubectl("exec", "lives", "--", "/probe", "get", "http://127.0.0.1:8080/") == "lives\n"
    first.down()
    assert traces(first) == []
    assert container(second) == kept
    assert all(record.alive for record in second.processes.records())
    assert second.kubectl("get", "pod", "lives", "-o", "jsonpath={.status.containerStatuses[0].restartCount}") == "0"
    second.down()
    assert traces(second) == []


def test_a_start_mends_killed_parts_and_keeps_the_pods(cluster_named: Callable[[str], Cluster]) -> None:
    cluster = cluster_named("mend")
    Cluster.up_node(cluster.name, owned=True)
    kept = run_pod(cluster)
    for part in ("kubelet", "containerd", "kube-apiserver", "etcd", "storage-provisioner"):
        record = cluster.processes.record(part)
        assert record is not None
        kill_all([record.pid])
    Cluster.up_node(cluster.name, owned=True)
    assert all(record.alive for record in cluster.processes.records())
    cluster.kubectl("wait", "--for=condition=Ready", "pod/lives", "--timeout=120s")
    assert container(cluster) == kept


@pytest.mark.parametrize("reached", ["namespaces", "containerd", "kube-apiserver", "kubelet"])
def test_a_start_that_is_killed_midway_leaves_nothing_after_down(
    cluster_named: Callable[[str], Cluster], reached: str
) -> None:
    cluster = cluster_named("midway")
    command = [sys.executable, "-m", "testbed.cli", "up", "--node", "--name", cluster.name]
    starting = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT / "hack")}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert starting.stderr is not None
    while not (cluster.folder / "processes" / f"{reached}.json").exists():
        assert starting.poll() is None, starting.stderr.read()
        time.sleep(0.005)
    kill_all([starting.pid])
    starting.wait()
    starting.stderr.close()
    facts = state.load(cluster.folder)
    assert facts is not None
    assert facts.phase == "starting"
    cluster.down()
    assert traces(cluster) == []


def test_a_start_clears_what_a_dead_session_left(cluster_named: Callable[[str], Cluster]) -> None:
    abandoned, other = cluster_named("left"), cluster_named("next")
    code = f"from testbed.cluster import Cluster; import os; Cluster.up_control_plane({abandoned.name!r}, owned=True)"
    subprocess.run(
        [sys.executable, "-c", code + "; os._exit(9)"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "hack")},
        check=False,
    )
    assert abandoned.folder.exists()
    Cluster.up_control_plane(other.name, owned=True)
    assert traces(abandoned) == []
    assert abandoned.name not in {entry.name for entry in clusters_dir().iterdir()}
