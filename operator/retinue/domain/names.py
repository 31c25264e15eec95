"""Names that are computed, never chosen: the same input gives the same name, so every write can be repeated."""

import hashlib
import re
from typing import Any, Final

from retinue.domain.canonical import sha256_of
from retinue.resources.v1alpha1.content import Model, Runner
from retinue.resources.v1alpha1.modelserver import ModelServerSpec

SLUG_LENGTH: Final = 30
"""Longest readable part of a ModelServer's name; its pods append an ordinal and stay below 63."""
SHORT_HASH: Final = 10
"""Hex digits of a digest that stand in a name. Comparisons always use the full digest."""
_LABEL = re.compile(r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")


def slug(text: str, limit: int = SLUG_LENGTH) -> str:
    """A readable DNS label of at most `limit` characters that starts with a letter: `llama3.2:3b` -> `llama3-2-3b`."""
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not words or not words[0].isalpha():
        words = f"m-{words}"
    return words[:limit].strip("-")


def short_hash(digest: str) -> str:
    """The part of `sha256:<hex>` that stands in names."""
    return digest.removeprefix("sha256:")[:SHORT_HASH]


def label_value(text: str) -> str:
    """The text itself where it is a valid label value, else a readable part of it and a hash, at most 63 characters."""
    if text == "" or _LABEL.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{slug(text, 63 - SHORT_HASH - 1)}-{digest[:SHORT_HASH]}"


def pool_name(team: str, environment: str) -> str:
    """Who may share model pods: one team in one environment."""
    return f"{team}/{environment}"


def model_server_key(
    model: Model,
    runner: Runner,
    *,
    profile: str | None = None,
    external_server: str | None = None,
    pool: str,
    dedicated_to: str | None = None,
) -> str:
    """`sha256:<hex>` of everything that two deployments must agree on to share model pods.

    Exactly one of `profile` and `external_server` is given; `dedicated_to` is `<namespace>/<name>`.
    """
    if (profile is None) == (external_server is None):
        raise ValueError("exactly one of profile and external_server must be given")
    content: dict[str, Any] = {"model": model.to_object(), "runner": runner.to_object(), "pool": pool}
    if profile is not None:
        content["profile"] = profile
    if external_server is not None:
        content["externalServer"] = external_server
    if dedicated_to is not None:
        content["dedicatedTo"] = dedicated_to
    return sha256_of(content)


def model_server_name(model_name: str, key: str) -> str:
    """`<slug of the model's name>-<10 hex of the key>`."""
    return f"{slug(model_name)}-{short_hash(key)}"


def model_server_spec(
    model: Model,
    runner: Runner,
    *,
    profile: str | None = None,
    external_server: str | None = None,
    pool: str,
    dedicated_to: str | None = None,
) -> ModelServerSpec:
    """The whole spec of the ModelServer for this key."""
    return ModelServerSpec(
        key=model_server_key(
            model,
            runner,
            profile=profile,
            external_server=external_server,
            pool=pool,
            dedicated_to=dedicated_to,
        ),
        model=model,
        runner=runner,
        profile=profile,
        external_server=external_server,
        pool=pool,
        dedicated_to=dedicated_to,
    )
