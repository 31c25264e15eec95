"""Every kopf setting that differs from its default, with the reason. kopf only watches here; it never writes."""

from typing import Final

import kopf

ERROR_BACKOFFS: Final = (1, 1, 2, 3, 5, 8, 13, *(20,) * 15)
"""Seconds between tries: 5.5 minutes in all, so that an API server upgrade does not end the watching thread, and never
so long that its return goes unnoticed."""

INACTIVITY_SECONDS: Final = 70.0
"""Bookmarks come about every minute; a stream silent for longer is dead behind some load balancer."""


def tune(settings: kopf.OperatorSettings) -> None:
    """Sets what a watch-only kopf in a thread of its own needs."""
    # Our process decides when to exit; kopf's last resort would kill it while the Lease is being released.
    settings.process.ultimate_exiting_timeout = None
    # Kubernetes Events are ours, on transitions only; log lines must never become Events.
    settings.posting.enabled = False
    settings.posting.loggers = False
    # High availability is our Lease; peering freezes both sides at equal priority.
    settings.peering.standalone = True
    # CRDs are checked before the start and namespaces are given: no rights to list or watch either are needed.
    settings.scanning.disabled = True
    # A watch ends regularly on the server before the client gives it up.
    settings.watching.server_timeout = 290
    settings.watching.client_timeout = 300
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = INACTIVITY_SECONDS
    # The default 0.1 s hammers an API server that closes every watch.
    settings.watching.reconnect_backoff = 1.0
    # A list of thousands of objects must not be one answer.
    settings.watching.chunk_size = 500
    # The default of five minutes would hide a dead API server.
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = ERROR_BACKOFFS
    # A 429 says when to come back.
    settings.networking.enforce_retry_after = True
    # A handler only hands over, so a worker per object need not linger.
    settings.queueing.idle_timeout = 1.0
    settings.queueing.exit_timeout = 1.0
