"""What can go wrong when talking to Ollama or to an agent; each class carries the reason that ends in a status.

Ollama answers errors as a JSON text without a code, so the text is read in one place (`from_reply`). The texts were
taken from Ollama 0.24; a text that is not known ends in the general class, never in a wrong special one.
"""

import re
from typing import ClassVar, Final

MAX_MESSAGE: Final = 512
"""Longest message that is passed on, in characters: it ends in a Kubernetes status."""

_QUERY = re.compile(r"\?[^\s\"']+")


class OllamaError(Exception):
    """Base of all errors of this package. `str()` is one line, free of credentials and of request content."""

    reason: ClassVar[str] = "OllamaError"
    """CamelCase word for conditions and metrics."""

    def __init__(self, message: str) -> None:
        super().__init__(tidy(message))


class OllamaUnreachable(OllamaError):
    """No connection, or it broke before a reply."""

    reason = "OllamaUnreachable"


class OllamaTimedOut(OllamaError):
    """Connected, but no reply within the deadline of the call."""

    reason = "OllamaTimedOut"


class OllamaBusy(OllamaError):
    """503: the queue of Ollama or of the agent is full."""

    reason = "Busy"


class AccessDenied(OllamaError):
    """401 or 403: the credential is not one that the agent, or a proxy before an external server, accepts."""

    reason = "AccessDenied"


class ModelUnknown(OllamaError):
    """The server (404), or the registry on a pull, does not have the model."""

    reason = "ModelUnknown"


class ModelInvalid(OllamaError):
    """The name or the request can never work: 400."""

    reason = "ModelInvalid"


class NotSupported(ModelInvalid):
    """The model lacks the capability, for example text generation in an embedding model."""

    reason = "NotSupported"


class DiskFull(OllamaError):
    """The volume of the models has no space left."""

    reason = "DiskFull"


class LoadFailed(OllamaError):
    """The runner did not come up with this model."""

    reason = "LoadFailed"


class NotEnoughMemory(LoadFailed):
    """The model does not fit into the memory that Ollama may use."""

    reason = "NotEnoughMemory"


class PullFailed(OllamaError):
    """A pull ended without success; what has arrived stays on disk and the next pull goes on from there."""

    reason = "PullFailed"


class RegistryUnreachable(PullFailed):
    """The registry's name does not resolve, or nothing answers there."""

    reason = "RegistryUnreachable"


class RegistryDenied(PullFailed):
    """The registry wants other credentials (401, 403)."""

    reason = "RegistryDenied"


class PullStalled(PullFailed):
    """A pull went without progress for too long and was stopped by us."""

    reason = "PullStalled"


class PullDamaged(PullFailed):
    """Ollama cannot read its own notes about an interrupted pull (a node that lost power, a disk that was full).

    It then fails the same way for ever, and nothing in its API removes the notes.
    """

    reason = "PullDamaged"


class AgentUnreachable(OllamaError):
    """The agent of a model pod did not answer in time or at all."""

    reason = "AgentUnreachable"


class AgentRefused(OllamaError):
    """Something answered, but not with a status: a wrong credential, or it is no agent."""

    reason = "AgentRefused"


def tidy(message: str) -> str:
    """One line of at most MAX_MESSAGE characters, without URL queries (registries sign download links in them)."""
    line = _QUERY.sub("", " ".join(message.split()))
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"


_DISK_FULL = ("no space left on device", "disk quota exceeded")
_MEMORY = ("requires more system memory", "out of memory", "unable to allocate", "failed to allocate")
_LOAD = ("llama runner", "unable to load model", "error loading model", "timed out waiting for", "runner process")
_NETWORK = (
    "no such host",
    "connection refused",
    "i/o timeout",
    "network is unreachable",
    "no route to host",
    "connection reset",
    "server misbehaving",
    "tls: ",
    "x509: ",
    "tls handshake timeout",
    "server gave http response to https client",
)
_PULL_UNKNOWN = ("pull model manifest: file does not exist", "manifest unknown", "model not found")
_PULL_DAMAGED = ("eof", "unexpected eof", "unexpected end of json input")
_PULL_DENIED = ("unauthorized", "access denied", "401:", "403:")


def from_reply(status: int, message: str) -> OllamaError:
    """The error for a reply that is not 2xx, or for an error line inside a stream (pass its status, or 500)."""
    text = message.lower()
    if any(part in text for part in _DISK_FULL):
        return DiskFull(message)
    if status == 503:
        return OllamaBusy(message)
    if status in (401, 403):
        return AccessDenied(message or f"HTTP {status}")
    if status == 404:
        return ModelUnknown(message)
    if status == 400:
        return NotSupported(message) if "does not support" in text else ModelInvalid(message)
    if any(part in text for part in _MEMORY):
        return NotEnoughMemory(message)
    if any(part in text for part in _LOAD):
        return LoadFailed(message)
    return OllamaError(message or f"HTTP {status} without a message")


def from_pull(message: str) -> OllamaError:
    """The error for the text that ends a pull."""
    text = message.lower()
    if any(part in text for part in _DISK_FULL):
        return DiskFull(message)
    if text in _PULL_DAMAGED or text.startswith("invalid character"):
        return PullDamaged(message)
    if any(part in text for part in _PULL_UNKNOWN):
        return ModelUnknown(message)
    if any(part in text for part in _PULL_DENIED):
        return RegistryDenied(message)
    if any(part in text for part in _NETWORK):
        return RegistryUnreachable(message)
    return PullFailed(message)
