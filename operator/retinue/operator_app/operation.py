"""Runs the joined parts: leads while it may, feeds the cache all the time, and ends in reverse order."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from retinue.kube.lease import Elector
from retinue.operator_app.parts import Parts
from retinue.operator_app.start_error import StartError
from retinue.reconcile.relist import Relist

POLL_SECONDS: Final = 0.05

log = structlog.get_logger(__name__)

Work = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator process."""

    parts: Parts
    elector: Elector | None
    """None: there is no Lease, this process always leads."""
    on_change: Callable[[bool], None]
    """Told True when this process begins to lead and False when it ends; the elector tells it too."""
    background: tuple[Work, ...] = ()
    """Runs whether or not this process leads."""
    leading: tuple[Work, ...] = ()
    """Runs beside the workers, only while this process leads."""

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until `stop`. Raises StartError when a part ends that must not: Kubernetes starts the process again."""
        work = {"elector": self.elector.run(self.lead) if self.elector is not None else self._lead_alone()}
        work |= {f"background-{number}": one() for number, one in enumerate(self.background)}
        work |= self.parts.feeders()
        tasks = [asyncio.create_task(one, name=name) for name, one in work.items()]
        try:
            await first_of(tasks, stop)
        finally:
            # Nothing new comes in, then the workers end, then the Lease is given back.
            for task in reversed(tasks):
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            self.parts.queue.shut_down()
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("a part of the operator ended", part=task.get_name(), exc_info=error)
                raise StartError(f"{task.get_name()} ended with {type(error).__name__}")

    async def lead(self) -> None:
        """The work of the leader. Nothing is decided before everything has been listed anew."""
        async with asyncio.TaskGroup() as group:
            began = asyncio.get_running_loop().time()
            group.create_task(self.parts.relist.run(), name="relist")
            await _listed(self.parts.relist, began)
            log.info("everything is listed, working")
            group.create_task(self.parts.workers.run(), name="workers")
            group.create_task(self.parts.prober.run(), name="prober")
            for one in self.leading:
                group.create_task(one())

    async def _lead_alone(self) -> None:
        self.on_change(True)
        try:
            await self.lead()
        finally:
            self.on_change(False)


async def first_of(tasks: Iterable["asyncio.Task[Any]"], stop: asyncio.Event) -> None:
    """Waits until told to stop, or until one of the tasks has ended."""
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()


async def _listed(relist: Relist, began: float) -> None:
    """Waits for a relist that is younger than this leadership: what was seen on standby may be old."""
    loop = asyncio.get_running_loop()
    while True:
        age = relist.age
        if age is not None and age <= loop.time() - began:
            return
        await asyncio.sleep(POLL_SECONDS)
