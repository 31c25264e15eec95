"""The content address of a revision: digest, name, the object itself, and the check that nobody bent it."""

import re
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from retinue.domain.canonical import NotCanonical, sha256_of
from retinue.domain.names import short_hash
from retinue.domain.snapshot import (
    SCHEMA_VERSION,
    build_snapshot,
    effective_model,
    needed_config_maps,
)
from retinue.domain.violation import Violation
from retinue.resources.meta import API_VERSION, LABEL_ASSISTANT, LABEL_MADE_BY
from retinue.resources.reasons import DIGEST_INVALID, DIGEST_VALID, SCHEMA_TOO_NEW
from retinue.resources.v1alpha1.assistantrevision import Provenance
from retinue.resources.v1alpha1.content import Snapshot

__all__ = [
    "MADE_BY_OPERATOR",
    "SCHEMA_VERSION",
    "RevisionCheck",
    "Violation",
    "build_revision_object",
    "build_snapshot",
    "digest_of",
    "effective_model",
    "needed_config_maps",
    "revision_name",
    "same_content",
    "verify_revision",
]

MADE_BY_OPERATOR: Final = "operator"
_WRITE_AGAIN: Final = "delete it and let the operator, or `retinue revision build`, write it again"
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


@dataclass(frozen=True, slots=True)
class RevisionCheck:
    """Whether a stored revision may be served."""

    reason: str
    """DigestValid, DigestInvalid or SchemaTooNew."""
    message: str
    """Empty when it may; else field, cause and what to do."""

    @property
    def ok(self) -> bool:
        """True: what is stored is what the digest says, and this release understands it."""
        return self.reason == DIGEST_VALID


def digest_of(snapshot: dict[str, Any], schema_version: int = SCHEMA_VERSION) -> str:
    """`sha256:<64 hex>` of the RFC 8785 JSON of {schemaVersion, snapshot}, over exactly what is given.

    Fields that this release does not know are hashed too. Raises NotCanonical.
    """
    return sha256_of({"schemaVersion": schema_version, "snapshot": snapshot})


def revision_name(assistant: str, digest: str) -> str:
    """`<assistant>-<10 hex of the digest>`: the same content has the same name in every namespace and cluster."""
    return f"{assistant}-{short_hash(digest)}"


def build_revision_object(
    assistant: str,
    namespace: str | None,
    snapshot: dict[str, Any],
    provenance: Provenance | None = None,
    *,
    by_operator: bool = True,
) -> dict[str, Any]:
    """The whole AssistantRevision. `by_operator` False (the CLI): without the label by which revisions are collected.

    Raises NotCanonical; what `build_snapshot` returned never does.
    """
    digest = digest_of(snapshot)
    metadata: dict[str, Any] = {"name": revision_name(assistant, digest), "labels": {LABEL_ASSISTANT: assistant}}
    if namespace:
        metadata["namespace"] = namespace
    if by_operator:
        metadata["labels"][LABEL_MADE_BY] = MADE_BY_OPERATOR
    spec: dict[str, Any] = {
        "assistant": assistant,
        "schemaVersion": SCHEMA_VERSION,
        "digest": digest,
        "snapshot": snapshot,
    }
    origin = provenance.to_object() if provenance is not None else {}
    if origin:
        spec["provenance"] = origin
    return {"apiVersion": API_VERSION, "kind": "AssistantRevision", "metadata": metadata, "spec": spec}


def same_content(stored: dict[str, Any], digest: str) -> bool:
    """False: the stored revision has the wanted name but another digest (`DigestConflict`); never overwrite it."""
    return bool(stored.get("spec", {}).get("digest") == digest)


def verify_revision(obj: dict[str, Any]) -> RevisionCheck:
    """Computes the digest again over what is stored. Never raises, whatever was written by hand."""
    spec = obj.get("spec") or {}
    version = spec.get("schemaVersion")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        return RevisionCheck(
            SCHEMA_TOO_NEW,
            f"spec.schemaVersion: {version} is newer than {SCHEMA_VERSION}, the newest that this release understands; "
            "upgrade retinue",
        )
    digest, snapshot = spec.get("digest"), spec.get("snapshot")
    if version != SCHEMA_VERSION or not isinstance(snapshot, dict):
        return _invalid("spec.schemaVersion", f"{version!r} is not a version of the snapshot")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        return _invalid("spec.digest", "it is not a sha256 digest")
    try:
        computed = digest_of(snapshot)
    except NotCanonical as error:
        return _invalid("spec.snapshot", f"it has no canonical JSON ({error})")
    if computed != digest:
        return _invalid("spec.digest", f"the snapshot has the digest {computed}")
    name = obj.get("metadata", {}).get("name", "")
    if name != revision_name(str(spec.get("assistant")), digest):
        return _invalid(
            "metadata.name", f"the content has the name {revision_name(str(spec.get('assistant')), digest)}"
        )
    try:
        Snapshot.model_validate(snapshot)
    except ValidationError as error:
        # Only places and kinds of mistakes: the values may be prompts.
        places = ", ".join(
            sorted({".".join(str(part) for part in e["loc"]) for e in error.errors(include_input=False)})
        )
        return _invalid("spec.snapshot", f"these fields do not fit schemaVersion {version}: {places}")
    return RevisionCheck(DIGEST_VALID, "")


def _invalid(field: str, cause: str) -> RevisionCheck:
    return RevisionCheck(DIGEST_INVALID, f"{field}: {cause}; {_WRITE_AGAIN}")
