"""One cluster as an object: up, down, kubectl, images. Everything else of the testbed is behind this class."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from testbed import binaries, controlplane, state
from testbed.controlplane import Certificates, Layout
from testbed.errors import TestbedError
from testbed.paths import ROOT, clusters_dir
from testbed.ports import free_ports
from testbed.processes import Processes, kill_all
from testbed.progress import say
from testbed.state import Kind, State


class Cluster:
    """A cluster on this machine. Make one with `up_control_plane` or `up_node`, find a running one with `open`."""

    def __init__(self, name: str) -> None:
        self.name = state.checked_name(name)
        self.folder = clusters_dir() / name
        self.processes = Processes(self.folder)

    # Life ----------------------------------------------------------------------------------------------------------
    @classmethod
    def up_control_plane(cls, name: str, *, owned: bool = False) -> Self:
        """etcd, API server, controller manager, scheduler on loopback; needs no root. A running one is used as it is.

        `owned`: the cluster belongs to this process; a later start of any cluster clears it away when this one is dead.
        """
        return cls(name)._up("control-plane", owned)

    @classmethod
    def up_node(cls, name: str, *, owned: bool = False) -> Self:
        """A control plane and one real node in their own network namespace; needs root."""
        return cls(name)._up("node", owned)

    @classmethod
    def open(cls, name: str) -> Self:
        """A cluster that is up; TestbedError says how to start it when it is not."""
        cluster = cls(name)
        facts = state.load(cluster.folder)
        if facts is None or facts.phase != "ready":
            raise TestbedError(f"cluster {name!r} is not up: start it with ./hack/cluster up --name {name}")
        return cluster

    def down(self) -> None:
        """Ends and removes everything of it. Safe at any time: half started, half killed, or not there at all."""
        with self._locked():
            self._clear()
            self._lock.unlink(missing_ok=True)

    @property
    def _lock(self) -> Path:
        return clusters_dir() / f".{self.name}.lock"

    def _up(self, kind: Kind, owned: bool) -> Self:
        clear_abandoned(except_name=self.name)
        with self._locked():
            facts = state.load(self.folder)
            if facts is not None and facts.phase == "ready" and facts.kind == kind and self._mended(facts):
                return self
            if facts is not None and facts.phase == "ready" and facts.kind != kind:
                raise TestbedError(
                    f"cluster {self.name!r} is up as {facts.kind}: give another --name, or end it first with "
                    f"./hack/cluster down --name {self.name}"
                )
            if self.folder.exists():
                say(f"clearing away what is left of cluster {self.name}")
            self._clear()
            self._start(kind, owned)
        return self

    def _start(self, kind: Kind, owned: bool) -> None:
        """A fresh start; what it made is cleared away again when it fails."""
        facts = State(name=self.name, kind=kind)
        if owned:
            facts.own()
        try:
            if kind == "node":
                from testbed import node

                node.start(self.folder, facts, self.processes)
            else:
                self._start_control_plane(facts)
        except BaseException:
            self._keep_logs()
            self._clear()
            raise
        facts.phase = "ready"
        facts.save(self.folder)

    def _start_control_plane(self, facts: State) -> None:
        binaries.ensure_all(binaries.CONTROL_PLANE)
        for attempt in range(3):
            facts.api_port, facts.etcd_port, facts.etcd_peer_port = free_ports(3)
            facts.save(self.folder)
            say(f"starting etcd, kube-apiserver, kube-controller-manager, kube-scheduler ({self.name})")
            try:
                controlplane.start(self._layout(facts), self.processes)
                return
            except TestbedError:
                # The usual cause is that another process took a port between our look and its use.
                if attempt == 2:
                    raise
                self._clear()

    def _mended(self, facts: State) -> bool:
        """Like `_mend`, but what does not come back counts as a cluster that must be made anew."""
        try:
            return self._mend(facts)
        except TestbedError as error:
            say(f"cluster {self.name} does not come back and is made anew: {error}")
            return False

    def _mend(self, facts: State) -> bool:
        """Starts what has died of a cluster that was whole; False when it cannot be mended and must be made anew."""
        if facts.kind == "node":
            from testbed import node

            if not node.namespaces_alive(self.processes):
                return False
            revived = node.mend(self.folder, facts, self.processes)
        else:
            revived = self.processes.restart_dead()
            if len(revived) == len(controlplane.NAMES):
                # All four dead is a reboot or a kill of everything: a fresh start is as quick and surely clean.
                return False
        if revived:
            say(f"started again in cluster {self.name}: {', '.join(revived)}")
        controlplane.wait_ready(self._layout(facts), self.processes)
        return True

    def _clear(self) -> None:
        """Kills, unmounts and deletes; repeated until nothing is found, because a dying process may still start one."""
        facts = state.load(self.folder)
        while pids := self._all_pids():
            kill_all(pids)
        if os.geteuid() == 0:
            from testbed import node

            node.clear(self.folder)
        elif facts is not None and facts.kind == "node":
            raise TestbedError(f"cluster {self.name!r} has a node: only root can end it")
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _all_pids(self) -> set[int]:
        known = self.processes.all_pids()
        if os.geteuid() != 0:
            return known
        from testbed import node

        return known | node.pids(self.folder, known)

    def _keep_logs(self) -> None:
        """Logs of a failed start, kept beside the clusters for whoever asks why."""
        target = clusters_dir() / f".failed-{self.name}"
        shutil.rmtree(target, ignore_errors=True)
        if self.processes.logs.exists():
            shutil.copytree(self.processes.logs, target)
            say(f"the start failed; its logs are in {target}")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One command at a time per cluster."""
        with binaries.file_lock(self._lock, f"another command works on cluster {self.name}"):
            yield

    # Use -----------------------------------------------------------------------------------------------------------
    @property
    def facts(self) -> State:
        """What is written down about it; TestbedError when it is not there."""
        facts = state.load(self.folder)
        if facts is None:
            raise TestbedError(f"there is no cluster {self.name!r}: ./hack/cluster status lists them")
        return facts

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of a cluster administrator."""
        return self.folder / "kubeconfig"

    @property
    def url(self) -> str:
        """Where the API server listens."""
        return self._layout(self.facts).url

    @property
    def certs(self) -> Certificates:
        """The authority (certificate and key), and the server's, the admin's and other pairs, as files."""
        return controlplane.certificates(self._layout(self.facts))

    @property
    def audit_log(self) -> Path:
        """One JSON line per finished API request."""
        return self.processes.logs / "audit.log"

    @property
    def host_address(self) -> str:
        """The address at which pods reach services that listen on this machine (bind them there)."""
        return self._layout_host(self.facts)

    def kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002 - the name that subprocess uses
        """Runs kubectl as administrator and returns its stdout; TestbedError carries its stderr."""
        ran = subprocess.run(
            [str(binaries.ensure("kubectl")), "--kubeconfig", str(self.kubeconfig), *args],
            input=input,
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode != 0:
            raise TestbedError(f"kubectl {' '.join(args)}: {ran.stderr.strip()}")
        return ran.stdout

    def apply_crds(self, folder: Path = ROOT / "crds") -> None:
        """Applies every CRD of a folder and waits until the API server serves them; none there is no error."""
        files = sorted(folder.glob("*.yaml"))
        if files:
            arguments = [part for file in files for part in ("-f", str(file))]
            self.kubectl("apply", "--server-side", "--force-conflicts", *arguments)
            self.kubectl("wait", "--for=condition=Established", "--timeout=60s", *arguments)

    def load_image(self, archive: Path) -> list[str]:
        """Imports an image archive (docker or OCI) into the node; returns the names that it now knows."""
        if self.facts.kind != "node":
            raise TestbedError(f"cluster {self.name!r} has no node to load an image into: start one with up --node")
        from testbed import containerd

        return containerd.load_image(self.folder, archive)

    def environment(self) -> dict[str, str]:
        """What `hack/cluster env` prints: variables under which kubectl and helm use this cluster."""
        tools = self.folder / "bin"
        tools.mkdir(exist_ok=True)
        for name in ("kubectl", "helm"):
            if name == "kubectl" or binaries.present(name):
                link = tools / name
                link.unlink(missing_ok=True)
                link.symlink_to(binaries.ensure(name))
        return {
            "KUBECONFIG": str(self.kubeconfig),
            "RETINUE_CLUSTER": self.name,
            "PATH": f"{tools}:{os.environ.get('PATH', '')}",
        }

    def _layout(self, facts: State) -> Layout:
        if facts.kind == "node":
            from testbed import node

            return node.layout(self.folder, facts, self.processes)
        return Layout(
            cluster=self.name,
            folder=self.folder,
            address="127.0.0.1",
            api_port=facts.api_port,
            etcd_port=facts.etcd_port,
            etcd_peer_port=facts.etcd_peer_port,
        )

    def _layout_host(self, facts: State) -> str:
        if facts.kind == "node":
            from testbed import netns

            return netns.Network(facts.subnet).host_address
        return "127.0.0.1"


def all_clusters() -> list[Cluster]:
    """Every cluster that has a folder, whole or not."""
    if not clusters_dir().exists():
        return []
    return [Cluster(entry.name) for entry in sorted(clusters_dir().iterdir()) if not entry.name.startswith(".")]


def clear_abandoned(except_name: str = "") -> None:
    """Clears clusters whose owner (a test session) has died without doing so."""
    for cluster in all_clusters():
        facts = state.load(cluster.folder)
        if cluster.name == except_name or facts is None or not facts.abandoned:
            continue
        if facts.kind != "node" or os.geteuid() == 0:
            say(f"clearing cluster {cluster.name}: the process that owned it is dead")
            cluster.down()
