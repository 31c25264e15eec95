"""Pod network inside the node: a bridge, addresses from a file, host ports by iptables. NetworkPolicy has no effect."""

import json
from pathlib import Path

from testbed.netns import Network


def write_config(folder: Path, network: Network) -> Path:
    """Writes the CNI configuration and returns its folder."""
    target = folder / "cni"
    target.mkdir(exist_ok=True)
    config = {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": network.node_pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
    (target / "10-pods.conflist").write_text(json.dumps(config, indent=1))
    return target
