"""What to do next about Ollama, from what is seen: pure, so every path has a table test.

The agent looks again after each action; nothing is remembered of the way here except whether the loaded model has
already produced its one token, and why the last action failed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from retinue.ollama.names import canonical, parse_version, same_digest
from retinue.ollama.replies import LoadedModel

MIN_VERSION: Final = (0, 17, 1)
"""Older ones leak memory of other requests to anybody who may send two of them (CVE-2026-7482)."""
ADVISED_VERSION: Final = (0, 20, 3)
"""Older ones have a path traversal in the transfer of tensor models (CVE-2026-7020)."""


class Phase(StrEnum):
    """Where the pod is on its way to serving; the values are API."""

    STARTING = "Starting"
    PULLING = "Pulling"
    VERIFYING = "Verifying"
    LOADING = "Loading"
    WARMING = "Warming"
    READY = "Ready"
    FAILED = "Failed"


class Action(StrEnum):
    """The next thing to do."""

    WAIT = "Wait"
    REFUSE = "Refuse"
    PULL = "Pull"
    COPY = "Copy"
    DELETE = "Delete"
    PRELOAD = "Preload"
    GENERATE = "Generate"
    SERVE = "Serve"


@dataclass(frozen=True, slots=True)
class Wants:
    """What the pod is for."""

    model: str
    digest: str
    pull_name: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What Ollama says now. `version` empty: it does not answer."""

    version: str = ""
    stored: Mapping[str, str] = field(default_factory=dict)
    """Canonical name to digest."""
    loaded: tuple[LoadedModel, ...] = ()

    def digest_of(self, name: str) -> str:
        """Digest on disk under that name, or empty."""
        return self.stored.get(canonical(name), "")

    def loaded_as(self, digest: str) -> LoadedModel | None:
        """The model of that digest in memory."""
        return next((m for m in self.loaded if same_digest(m.digest, digest)), None)


@dataclass(frozen=True, slots=True)
class Step:
    """One decision."""

    phase: Phase
    action: Action
    reason: str = ""
    message: str = ""
    target: str = ""
    """Name that a DELETE removes."""


def decide(wants: Wants, facts: Facts, *, warm: bool, disk_was_full: bool = False) -> Step:
    """The next step. `warm`: the loaded model has produced a token since its load and is not under suspicion.

    `disk_was_full`: the last pull failed for want of space, so a wrong model that lies on the disk has to go first.
    """
    if not facts.version:
        return Step(Phase.STARTING, Action.WAIT, "OllamaUnreachable", "Ollama does not answer yet")
    if parse_version(facts.version) < MIN_VERSION:
        wanted = ".".join(map(str, MIN_VERSION))
        return Step(
            Phase.FAILED,
            Action.REFUSE,
            "OllamaTooOld",
            f"Ollama {facts.version} has a known leak of other requests' memory; "
            f"use {wanted} or newer in the profile's image",
        )
    if not same_digest(facts.digest_of(wants.model), wants.digest):
        return _fetch(wants, facts, disk_was_full)
    if canonical(wants.pull_name) != canonical(wants.model) and facts.digest_of(wants.pull_name):
        return Step(Phase.VERIFYING, Action.DELETE, target=wants.pull_name)
    if facts.loaded_as(wants.digest) is None:
        return Step(Phase.LOADING, Action.PRELOAD, message=f"loading {wants.model} into memory")
    if not warm:
        return Step(Phase.WARMING, Action.GENERATE, message="waiting for the first token")
    return Step(Phase.READY, Action.SERVE)


def _fetch(wants: Wants, facts: Facts, disk_was_full: bool) -> Step:
    if same_digest(facts.digest_of(wants.pull_name), wants.digest):
        return Step(Phase.VERIFYING, Action.COPY, message=f"naming the model {wants.model}")
    if disk_was_full:
        for name in (wants.pull_name, wants.model):
            if facts.digest_of(name):
                return Step(Phase.PULLING, Action.DELETE, target=name, message="removing a model of another digest")
    return Step(Phase.PULLING, Action.PULL, message=f"pulling {wants.pull_name}")


_ADVICE: Final[Mapping[str, str]] = {
    "ModelUnknown": "check spec.model.name of the Assistant and that the registry still has it",
    "TagMoved": "the tag has moved since the revision was made: make a new revision, or move the tag back",
    "DiskFull": "a ModelServer keeps its volume size: use a profile with a larger storage.size",
    "RegistryUnreachable": "check the host in modelRegistries, its `insecure`, and that model pods may reach it",
    "RegistryDenied": "the registry refused the pull: it has to allow anonymous pulls from model pods",
    "PullDamaged": "an interrupted pull left files that Ollama cannot read: delete the pod's claim and the pod",
    "NotEnoughMemory": "use a profile with more memory, or a smaller runner.numCtx",
    "LoadFailed": "see the log of the ollama container",
    "OllamaHung": "Ollama does not answer requests; its container is restarted by its liveness probe",
}


def explain(reason: str, message: str) -> str:
    """A failure as a person should read it: the cause, and what to do where we know it."""
    advice = _ADVICE.get(reason)
    return f"{message}; {advice}" if advice else message


def backoff(failures: int, first: float, longest: float) -> float:
    """Seconds to wait after the n-th failure in a row (n >= 1)."""
    return min(longest, first * 2.0 ** min(failures - 1, 30))
