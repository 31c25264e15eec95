"""What the gateway needs of an AssistantRevision to answer a request, worked out once and not per request.

The digest is checked here, over what is stored: a revision that was altered is never served. So is the schema version,
and what the snapshot asks for: a gateway that cannot do all of it refuses, because the answer would not be the one
that was tested and promoted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from retinue.domain.inference import ProfileFields, request_constants
from retinue.domain.revision import verify_revision
from retinue.resources.reasons import REVISION_NOT_SUPPORTED

DEFAULT_CAPABILITIES: Final = ("Chat", "Completion")

OPTION_NAMES: Final = {
    "temperature": "temperature",
    "topP": "top_p",
    "minP": "min_p",
    "topK": "top_k",
    "repeatPenalty": "repeat_penalty",
    "seed": "seed",
    "maxTokens": "num_predict",
    "stop": "stop",
}
"""Option of a snapshot to its name in Ollama's API."""
DECIMALS: Final = frozenset({"temperature", "topP", "minP", "repeatPenalty"})
"""Options that a snapshot holds as decimal strings, because canonical JSON and floats do not mix."""


class NotServable(Exception):
    """A revision that must not answer. `reason` is one of the reasons that its conditions use as well."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Runner:
    """The part of a revision that decides how its model is loaded."""

    num_ctx: int | None
    shift: bool | None


@dataclass(frozen=True, slots=True)
class ServedRevision:
    """One revision, ready for use. Equal inputs give equal values; nothing in it is changed afterwards."""

    uid: str
    name: str
    digest: str
    model: str
    model_digest: str
    runner: Runner
    system_prompt: str | None
    options: Mapping[str, Any]
    """Sampling options in Ollama's spelling, without `num_predict`."""
    max_tokens: int | None
    """The revision's own bound on the answer, in tokens."""
    format: str | Mapping[str, Any] | None
    """Value of Ollama's `format`; None is plain text."""
    capabilities: frozenset[str]
    client_overrides: frozenset[str]

    def constants(self, profile: ProfileFields | None) -> dict[str, Any]:
        """The block that every request to its model server carries."""
        return request_constants(self.runner, profile)


def serve_revision(revision: Mapping[str, Any]) -> ServedRevision:
    """The usable form of an AssistantRevision as the API server holds it. Raises NotServable."""
    check = verify_revision(dict(revision))
    if not check.ok:
        raise NotServable(check.reason, check.message)
    metadata, spec = revision["metadata"], revision["spec"]
    snapshot = spec["snapshot"]
    missing = _beyond_this_gateway(snapshot)
    if missing:
        raise NotServable(REVISION_NOT_SUPPORTED, f"it needs what this gateway lacks: {', '.join(missing)}")
    return _serve(metadata, spec["digest"], snapshot)


def _serve(metadata: Mapping[str, Any], digest: str, snapshot: Mapping[str, Any]) -> ServedRevision:
    runner = snapshot.get("runner") or {}
    options = snapshot.get("options") or {}
    prompts = [p for p in snapshot.get("prompts") or [] if p["role"] == "Primary"]
    return ServedRevision(
        uid=metadata.get("uid", ""),
        name=metadata["name"],
        digest=digest,
        model=snapshot["model"]["name"],
        model_digest=snapshot["model"]["digest"],
        runner=Runner(num_ctx=runner.get("numCtx"), shift=runner.get("shift")),
        system_prompt=prompts[0]["text"] if prompts else None,
        options={
            OPTION_NAMES[name]: float(value) if name in DECIMALS else value
            for name, value in options.items()
            if name in OPTION_NAMES and name != "maxTokens"
        },
        max_tokens=options.get("maxTokens"),
        format=_format(snapshot.get("responseFormat") or {}),
        capabilities=frozenset(snapshot.get("capabilities") or DEFAULT_CAPABILITIES),
        client_overrides=frozenset(snapshot.get("clientOverrides") or ()),
    )


def _format(response_format: Mapping[str, Any]) -> str | Mapping[str, Any] | None:
    kind = response_format.get("type", "Text")
    if kind == "Text":
        return None
    if kind == "JSON":
        return "json"
    schema: Mapping[str, Any] = response_format["schema"]
    return schema


def _beyond_this_gateway(snapshot: Mapping[str, Any]) -> list[str]:
    found = []
    if snapshot.get("tools"):
        found.append("tools")
    if (snapshot.get("memory") or {}).get("strategy", "None") != "None":
        found.append("memory")
    if len(snapshot.get("prompts") or []) > 1:
        found.append("more than one prompt")
    return found
