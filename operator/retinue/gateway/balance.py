"""Which pod takes the next request: the one with the fewest of this gateway's requests in flight."""

import random
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

from retinue.domain.routing import Target

AVOID_SECONDS: Final = 5.0
"""How long a pod that refused a connection is asked only when no other is left."""


class Balancer:
    """Counts requests per pod. A pod without requests takes no memory."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, seed: int | None = None) -> None:
        self._clock = clock
        self._random = random.Random(seed)  # noqa: S311 (ties between pods, no secret)
        self._in_flight: dict[str, int] = {}
        self._avoid_until: dict[str, float] = {}

    def in_flight(self, target: Target) -> int:
        """Requests that this gateway has running there."""
        return self._in_flight.get(target.url, 0)

    def take(self, targets: Sequence[Target], tried: Collection[str] = ()) -> Target | None:
        """The best target whose URL is not in `tried`, counted as busy until `give_back`; None if none is left."""
        left = [t for t in targets if t.url not in tried]
        if not left:
            return None
        if len(left) > 1:
            left = self._without_avoided(left)
            fewest = min(self._in_flight.get(t.url, 0) for t in left)
            left = [t for t in left if self._in_flight.get(t.url, 0) == fewest]
        chosen = left[0] if len(left) == 1 else self._random.choice(left)
        self._in_flight[chosen.url] = self._in_flight.get(chosen.url, 0) + 1
        return chosen

    def give_back(self, target: Target) -> None:
        """The request that `take` counted has ended."""
        left = self._in_flight.get(target.url, 0) - 1
        if left > 0:
            self._in_flight[target.url] = left
        else:
            self._in_flight.pop(target.url, None)

    def avoid(self, target: Target) -> None:
        """It could not be reached: a dead pod has no requests in flight and would otherwise attract all of them."""
        self._avoid_until[target.url] = self._clock() + AVOID_SECONDS

    def _without_avoided(self, targets: list[Target]) -> list[Target]:
        if not self._avoid_until:
            return targets
        now = self._clock()
        self._avoid_until = {url: until for url, until in self._avoid_until.items() if until > now}
        return [t for t in targets if t.url not in self._avoid_until] or targets
