"""Free TCP ports on loopback."""

import random
import socket


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on right now, outside the range that the kernel hands to outgoing connections.

    Another process may take one before it is used: who starts a server on it must be ready to ask again.
    """
    found: list[int] = []
    for port in random.sample(range(20000, 30000), 10000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise OSError("no free port between 20000 and 29999 on 127.0.0.1")
