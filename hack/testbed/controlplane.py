"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler: the real ones, for one throwaway cluster."""

import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from testbed import binaries, kubeconfig
from testbed.errors import TestbedError
from testbed.pki import Authority, Pair, service_account_key
from testbed.processes import Processes

NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


@dataclass(frozen=True)
class Layout:
    """Where one control plane listens and how a process is put in its place."""

    cluster: str
    folder: Path
    address: str
    """The address of the API server: loopback, or the node's in its network namespace."""
    api_port: int
    etcd_port: int
    etcd_peer_port: int
    service_cidr: str = "10.96.0.0/16"
    service_first: str = "10.96.0.1"
    pod_cidr: str | None = None
    """Only with a node."""
    enter: Sequence[str] = field(default_factory=tuple)
    """Command prefix that enters the node's namespaces; empty on the host."""

    @property
    def url(self) -> str:
        """Where clients reach the API server."""
        return f"https://{self.address}:{self.api_port}"

    @property
    def pki(self) -> Path:
        """Folder of certificates and keys."""
        return self.folder / "pki"

    @property
    def admin_kubeconfig(self) -> Path:
        """Kubeconfig of a cluster administrator."""
        return self.folder / "kubeconfig"


@dataclass(frozen=True)
class Certificates:
    """What tests need to speak to the API server themselves, or to stand between it and a client."""

    authority: Pair
    server: Pair
    admin: Pair
    etcd: Pair
    kubelet_client: Pair


def certificates(layout: Layout) -> Certificates:
    """Makes (or finds) every certificate of the control plane."""
    authority = Authority(layout.pki)
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    hosts = [*names, "kubernetes.default.svc.cluster.local", "127.0.0.1", layout.service_first]
    if layout.address not in hosts:
        hosts.append(layout.address)
    return Certificates(
        authority=authority.pair,
        server=authority.issue("apiserver", "kube-apiserver", hosts=hosts),
        admin=authority.issue("admin", "admin", groups=["system:masters"]),
        etcd=authority.issue("etcd", "etcd", hosts=["127.0.0.1", "localhost"]),
        kubelet_client=authority.issue("apiserver-kubelet", "kube-apiserver-kubelet", groups=["system:masters"]),
    )


def client_kubeconfig(layout: Layout, name: str, user: str, groups: Sequence[str] = ()) -> Path:
    """A kubeconfig for one component, written once."""
    path = layout.folder / "kubeconfigs" / name
    if not path.exists():
        authority = Authority(layout.pki)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        kubeconfig.write(path, layout.url, authority.pair.cert, authority.issue(name, user, groups), layout.cluster)
    return path


def start(layout: Layout, processes: Processes) -> None:
    """Starts the four processes and returns when the API server is ready and hands out service accounts.

    TestbedError with the end of the log when one of them ends, for instance because another process took its port.
    """
    programs = binaries.ensure_all(binaries.CONTROL_PLANE)
    certs = certificates(layout)
    kubeconfig.write(layout.admin_kubeconfig, layout.url, certs.authority.cert, certs.admin, layout.cluster)
    processes.start("etcd", [*layout.enter, programs["etcd"], *_etcd_flags(layout, certs)])
    processes.start("kube-apiserver", [*layout.enter, programs["kube-apiserver"], *_api_flags(layout, certs)])
    for name, flags in (
        ("kube-controller-manager", _controller_manager_flags(layout, certs)),
        ("kube-scheduler", []),
    ):
        config = client_kubeconfig(layout, name, f"system:{name}")
        common = [f"--kubeconfig={config}", "--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port=0"]
        # With the delegated checks on, they read a ConfigMap at start and give up when the API server is not there yet.
        processes.start(name, [*layout.enter, programs[name], *common, *flags])
    wait_ready(layout, processes)


def wait_ready(layout: Layout, processes: Processes, patience_seconds: float = 120.0) -> None:
    """Returns when /readyz answers 200 and the namespace `default` has its service account."""
    client = Client(layout)
    until = time.monotonic() + patience_seconds
    for path in ("/readyz", "/api/v1/namespaces/default/serviceaccounts/default"):
        while client.status(path) != 200:
            _revive(processes)
            if time.monotonic() > until:
                raise TestbedError(
                    f"the API server at {layout.url} does not answer {path} after {patience_seconds:.0f} s; "
                    f"end of its log:\n{processes.log_tail('kube-apiserver')}"
                )
            time.sleep(0.1)


def _revive(processes: Processes) -> None:
    """Controller manager and scheduler end when the API server is slow to come; etcd and the API server must not."""
    processes.require_alive("etcd", "kube-apiserver")
    for name in NAMES[2:]:
        record = processes.record(name)
        if record is not None and not record.alive:
            processes.start(name, record.argv)


class Client:
    """Just enough of an HTTP client to ask whether the API server is there."""

    def __init__(self, layout: Layout) -> None:
        certs = certificates(layout)
        self._url = layout.url
        self._context = ssl.create_default_context(cafile=str(certs.authority.cert))
        self._context.load_cert_chain(certs.admin.cert, certs.admin.key)
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._context))
        self._opener = urllib.request.build_opener(*handlers)

    def status(self, path: str) -> int:
        """The HTTP status of a GET; 0 when there was no answer."""
        try:
            with self._opener.open(self._url + path, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code
        except OSError:
            return 0


def _etcd_flags(layout: Layout, certs: Certificates) -> list[str]:
    client, peer = f"https://127.0.0.1:{layout.etcd_port}", f"https://127.0.0.1:{layout.etcd_peer_port}"
    flags = [
        "--name=default",
        f"--data-dir={layout.folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--auto-compaction-retention=10m",
        "--log-level=warn",
    ]
    for prefix in ("", "peer-"):
        flags += [
            f"--{prefix}client-cert-auth",
            f"--{prefix}trusted-ca-file={certs.authority.cert}",
            f"--{prefix}cert-file={certs.etcd.cert}",
            f"--{prefix}key-file={certs.etcd.key}",
        ]
    return flags


def _api_flags(layout: Layout, certs: Certificates) -> list[str]:
    key = service_account_key(layout.pki)
    flags = [
        f"--etcd-servers=https://127.0.0.1:{layout.etcd_port}",
        f"--etcd-cafile={certs.authority.cert}",
        f"--etcd-certfile={certs.etcd.cert}",
        f"--etcd-keyfile={certs.etcd.key}",
        f"--secure-port={layout.api_port}",
        f"--client-ca-file={certs.authority.cert}",
        f"--tls-cert-file={certs.server.cert}",
        f"--tls-private-key-file={certs.server.key}",
        f"--kubelet-certificate-authority={certs.authority.cert}",
        f"--kubelet-client-certificate={certs.kubelet_client.cert}",
        f"--kubelet-client-key={certs.kubelet_client.key}",
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction,PodSecurity,ResourceQuota",
        "--allow-privileged",
        f"--service-cluster-ip-range={layout.service_cidr}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        f"--audit-policy-file={_audit_policy(layout)}",
        f"--audit-log-path={layout.folder / 'logs' / 'audit.log'}",
        "--audit-log-maxsize=200",
        "--audit-log-maxbackup=1",
    ]
    if layout.address == "127.0.0.1":
        # The endpoint of the Service `kubernetes` may not be a loopback address, and without pods nobody asks for it.
        return [*flags, "--bind-address=127.0.0.1", "--endpoint-reconciler-type=none"]
    return [*flags, "--bind-address=0.0.0.0", f"--advertise-address={layout.address}"]


def _controller_manager_flags(layout: Layout, certs: Certificates) -> list[str]:
    flags = [
        f"--root-ca-file={certs.authority.cert}",
        f"--service-account-private-key-file={service_account_key(layout.pki)}",
        f"--cluster-signing-cert-file={certs.authority.cert}",
        f"--cluster-signing-key-file={certs.authority.key}",
        f"--service-cluster-ip-range={layout.service_cidr}",
        "--use-service-account-credentials",
    ]
    if layout.pod_cidr:
        flags += ["--allocate-node-cidrs", f"--cluster-cidr={layout.pod_cidr}", "--node-cidr-mask-size=24"]
    return flags


def _audit_policy(layout: Layout) -> Path:
    """Every finished request with its user, verb and object, never a body: tests prove 'no write' from it."""
    path = layout.folder / "audit-policy.yaml"
    (layout.folder / "logs").mkdir(parents=True, exist_ok=True)
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/healthz*"]}, {"level": "Metadata"}],
    }
    path.write_text(yaml.safe_dump(policy, sort_keys=False))
    return path
