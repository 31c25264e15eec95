"""The third step of a reconcile: turns a Plan into API calls, each of which can be repeated without harm.

Order: server-side apply of the children, deletes, status, Events. Whatever is already as wanted is not written, so
that a pass over a settled object makes no call at all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import structlog

from retinue.domain.plan import Delete, Plan
from retinue.kube import errors
from retinue.kube.cache import Cache, Key, key_of
from retinue.kube.client import KubeClient, Object, Resource
from retinue.kube.resources import BY_KIND
from retinue.reconcile.recorder import Recorder
from retinue.reconcile.same import already_applied
from retinue.resources.base import rfc3339

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A write that the API server will not take however often it is sent: quota, Pod Security, RBAC, validation."""

    key: Key
    reason: str
    """The server's reason: Forbidden, Invalid, ..."""
    message: str
    """The server's words without the refused values; fit for a condition."""


@dataclass(frozen=True, slots=True)
class ActResult:
    """What became of a Plan."""

    applied: tuple[Key, ...] = ()
    """Objects that were really written."""
    deleted: tuple[Key, ...] = ()
    refused: tuple[Refusal, ...] = ()
    """At most one: later writes may rest on earlier ones, so the first refusal ends the children."""
    status_written: bool = False
    requeue_after: float | None = None
    """Taken over from the Plan that was finished."""


Undecided = Callable[[Refusal], Plan]
"""Decides again, knowing that a write was refused; only `status`, `events` and `requeue_after` of its Plan count."""


class Actor:
    """Executes Plans with one client, one cache and one recorder of Events."""

    def __init__(
        self,
        client: KubeClient,
        cache: Cache,
        recorder: Recorder | None = None,
        *,
        may_write: Callable[[], bool] = lambda: True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`may_write` is asked before each write: a process that was frozen may no longer hold the Lease."""
        self._client = client
        self._may_write = may_write
        self._cache = cache
        self._recorder = recorder
        self._now = now

    async def act(self, plan: Plan, observed: Object | None, on_refused: Undecided | None = None) -> ActResult:
        """Children, then status, then Events. `observed` is the reconciled object as `decide` saw it (None: gone).

        When a child is refused, `on_refused` gives the Plan whose status is written instead (a condition that says
        so); without it the refusal is raised, so that it is never lost. Raises Conflict, Unavailable,
        TooManyRequests: the queue looks again.
        """
        result = await self.children(plan)
        if result.refused:
            refusal = result.refused[0]
            if on_refused is None:
                raise errors.Forbidden(403, refusal.reason, refusal.message)
            plan = on_refused(refusal)
        written = await self.finish(plan, observed)
        return replace(result, status_written=written, requeue_after=plan.requeue_after)

    async def children(self, plan: Plan) -> ActResult:
        """Applies and deletes of a Plan, in order; stops at the first refusal."""
        applied: list[Key] = []
        deleted: list[Key] = []
        for body in plan.apply:
            key = key_of(body)
            try:
                if await self._apply(key, body):
                    applied.append(key)
            except (errors.Forbidden, errors.Invalid, errors.NotFound) as error:
                return ActResult(tuple(applied), tuple(deleted), (Refusal(key, error.reason, error.message),))
        for wanted in plan.delete:
            key = Key(wanted.kind, wanted.namespace, wanted.name)
            try:
                if await self._delete(wanted):
                    deleted.append(key)
            except (errors.Forbidden, errors.Invalid) as error:
                return ActResult(tuple(applied), tuple(deleted), (Refusal(key, error.reason, error.message),))
        return ActResult(tuple(applied), tuple(deleted))

    async def finish(self, plan: Plan, observed: Object | None) -> bool:
        """Status (only if it differs) and Events of a Plan. True if the status was written."""
        if observed is None:
            return False
        written = False
        if plan.status is not None:
            written = await self._write_status(plan.status, observed)
        if self._recorder is not None:
            for event in plan.events:
                await self._recorder.record(observed, event)
        return written

    def _fence(self) -> None:
        if not self._may_write():
            raise errors.Unavailable(0, "NotLeading", "this process does not hold the Lease")

    async def _apply(self, key: Key, body: Object) -> bool:
        resource = _resource(key.kind)
        live = self._cache.get(*key)
        if live is None:
            # Never create on the word of a cache: it may not have heard of the object yet.
            try:
                live = await self._client.get(resource, key.name, key.namespace or None)
                self._cache.put(live)
            except errors.NotFound:
                live = None
        if live is not None:
            if live["metadata"].get("deletionTimestamp"):
                raise errors.Conflict(409, "BeingDeleted", f"{key} is being deleted; it is made again afterwards")
            if already_applied(body, live):
                return False
            # With the UID the server refuses to re-create, by an apply, what was deleted since the cache saw it.
            body = {**body, "metadata": {**body["metadata"], "uid": live["metadata"]["uid"]}}
        self._fence()
        self._cache.put(await self._client.apply(resource, body))
        log.info("applied", kind=key.kind, ns=key.namespace, name=key.name, created=live is None)
        return True

    async def _delete(self, wanted: Delete) -> bool:
        self._fence()
        try:
            await self._client.delete(
                _resource(wanted.kind),
                wanted.name,
                wanted.namespace or None,
                uid=wanted.uid,
                resource_version=wanted.resource_version,
                grace_period_seconds=wanted.grace_period_seconds,
            )
        except errors.NotFound:
            return False
        log.info("deleted", kind=wanted.kind, ns=wanted.namespace, name=wanted.name)
        return True

    async def _write_status(self, wanted: Object, observed: Object) -> bool:
        current = observed.get("status") or {}
        status = with_transition_times(wanted, current, rfc3339(self._now()))
        if status == current:
            return False
        key = key_of(observed)
        metadata = observed["metadata"]
        body: Object = {
            "apiVersion": observed["apiVersion"],
            "kind": key.kind,
            "metadata": {
                "name": key.name,
                **({"namespace": key.namespace} if key.namespace else {}),
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "status": status,
        }
        self._fence()
        try:
            stored = await self._client.apply_status(_resource(key.kind), body)
        except errors.NotFound:
            return False
        # The next pass must not decide on the status of before.
        self._cache.put(stored)
        return True


def with_transition_times(wanted: Object, current: Mapping[str, Any], now: str) -> Object:
    """The wanted status with `lastTransitionTime` kept where a condition's status did not change, else set to `now`.

    Without it a pass that changes nothing would still differ by the clock and write for ever.
    """
    if "conditions" not in wanted:
        return wanted
    before = {c["type"]: c for c in current.get("conditions") or []}
    conditions = []
    for condition in wanted["conditions"]:
        old = before.get(condition["type"])
        same = old is not None and old["status"] == condition["status"]
        since = old["lastTransitionTime"] if same and old is not None else condition.get("lastTransitionTime", now)
        conditions.append({**condition, "lastTransitionTime": since})
    order = {name: position for position, name in enumerate(before)}
    conditions.sort(key=lambda c: order.get(c["type"], len(order)))
    return {**wanted, "conditions": conditions}


def _resource(kind: str) -> Resource:
    try:
        return BY_KIND[kind]
    except KeyError:
        raise LookupError(f"kind {kind} is not listed in retinue.kube.resources") from None
