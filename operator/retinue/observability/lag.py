"""Shows blocking calls: whatever holds the event loop delays probes, renewals and requests alike."""

import asyncio
from collections.abc import Callable


async def measure_lag(report: Callable[[float], None], *, every_seconds: float = 1.0) -> None:
    """Reports, until cancelled, by how many seconds the loop was late to wake us: blocking calls show here first."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + every_seconds
        await asyncio.sleep(every_seconds)
        report(max(0.0, loop.time() - due))
