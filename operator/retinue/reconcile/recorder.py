"""Kubernetes Events about transitions: for people who type `kubectl describe`; losing one never matters."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from retinue.domain.plan import Event
from retinue.kube import errors
from retinue.kube.client import KubeClient, Object
from retinue.kube.resources import EVENT
from retinue.resources.base import rfc3339

MESSAGE_LIMIT = 1024
"""Characters that core/v1 takes in an Event's message."""
SLOT_SECONDS = 600
"""The same words about the same object are told at most once in such a slot."""
BURST = 25
"""Events that one object may cause at once."""
REFILL_SECONDS = 60.0
"""Seconds until one more is allowed."""
REMEMBERED_OBJECTS = 4096

log = structlog.get_logger(__name__)


class Recorder:
    """Writes Events; never raises, never retries, and is bounded per object."""

    def __init__(
        self,
        client: KubeClient,
        *,
        component: str = "retinue-operator",
        instance: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`instance` is the pod that reports."""
        self._client = client
        self._component = component
        self._instance = instance or component
        self._now = now
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def record(self, about: Object, event: Event) -> bool:
        """Writes one Event about an object. False: it was told already, too many, or the server did not take it."""
        metadata = about["metadata"]
        if not self._allowed(metadata["uid"]):
            return False
        now = self._now()
        namespace = metadata.get("namespace") or "default"
        slot = int(now.timestamp()) // SLOT_SECONDS
        identity = "\0".join((metadata["uid"], event.type, event.reason, event.message, str(slot)))
        digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
        moment = rfc3339(now)
        body: Object = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name'][:200]}.{digest}", "namespace": namespace},
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": metadata["name"],
                "namespace": metadata.get("namespace", ""),
                "uid": metadata["uid"],
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
            "type": event.type,
            "reason": event.reason,
            "message": event.message[:MESSAGE_LIMIT],
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
        }
        try:
            await self._client.create(EVENT, body, namespace)
        except errors.AlreadyExists:
            return False
        except errors.ApiError as error:
            log.debug("an Event was not written", kind=about["kind"], ns=namespace, cause=error.summary)
            return False
        return True

    def _allowed(self, uid: str) -> bool:
        now = self._clock()
        tokens, since = self._buckets.pop(uid, (float(BURST), now))
        tokens = min(float(BURST), tokens + (now - since) / REFILL_SECONDS)
        allowed = tokens >= 1
        self._buckets[uid] = (tokens - 1 if allowed else tokens, now)
        while len(self._buckets) > REMEMBERED_OBJECTS:
            self._buckets.popitem(last=False)
        return allowed
