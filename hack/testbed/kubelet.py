"""kubelet and kube-proxy of the one node."""

import yaml

from testbed import binaries, controlplane
from testbed.containerd import SOCKET
from testbed.controlplane import Layout
from testbed.netns import Network
from testbed.pki import Authority
from testbed.processes import Processes

NAMES = ("kubelet", "kube-proxy")


def start(layout: Layout, processes: Processes, network: Network, node: str, cgroup_root: str) -> None:
    """Starts both; the node gets Ready by itself."""
    kubelet_config = layout.folder / "kubelet.yaml"
    kubelet_config.write_text(yaml.safe_dump(_kubelet(layout, network, node, cgroup_root), sort_keys=False))
    kubeconfig = controlplane.client_kubeconfig(layout, "kubelet", f"system:node:{node}", ["system:nodes"])
    flags = [f"--config={kubelet_config}", f"--kubeconfig={kubeconfig}"]
    flags += [f"--hostname-override={node}", f"--node-ip={network.node_address}"]
    processes.start("kubelet", [*layout.enter, binaries.ensure("kubelet"), *flags])
    proxy_config = layout.folder / "kube-proxy.yaml"
    proxy_config.write_text(yaml.safe_dump(_proxy(layout, network, node), sort_keys=False))
    processes.start("kube-proxy", [*layout.enter, binaries.ensure("kube-proxy"), f"--config={proxy_config}"])


def _kubelet(layout: Layout, network: Network, node: str, cgroup_root: str) -> dict[str, object]:
    authority = Authority(layout.pki)
    serving = authority.issue("kubelet-server", node, hosts=[node, network.node_address])
    resolv = layout.folder / "resolv.conf"
    # Pods have no way to the outside; names outside of the cluster do not resolve.
    resolv.write_text(f"nameserver {network.dns_address}\n")
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority.pair.cert)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving.cert),
        "tlsPrivateKeyFile": str(serving.key),
        "address": network.node_address,
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup_root}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "clusterDNS": [network.dns_address],
        "clusterDomain": "cluster.local",
        "resolvConf": str(resolv),
        # An image that came from an archive cannot be pulled again, so it must never be collected.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    }


def _proxy(layout: Layout, network: Network, node: str) -> dict[str, object]:
    kubeconfig = controlplane.client_kubeconfig(layout, "kube-proxy", "system:kube-proxy")
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "mode": "iptables",
        "clusterCIDR": network.pod_cidr,
        "hostnameOverride": node,
        "nodePortAddresses": [f"{network.node_address}/32"],
        "oomScoreAdj": 0,
        # The limits of connection tracking belong to the host, not to a namespace: leave them alone.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
