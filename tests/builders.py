"""Objects for tests: plain dicts as the API server would return them, good by default, bent by keyword.

Every maker takes `spec` and `status` (merged over the defaults, field by field at the top level; a field that is
given as None is left out) and any `metadata` field as keyword.
"""

from typing import Any

Object = dict[str, Any]

API_VERSION = "retinue.dev/v1alpha1"
NAMESPACE = "bots-dev"
MODELS_NAMESPACE = "retinue-models"
MODEL = "llama3.2:3b"
MODEL_DIGEST = "sha256:a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72"
OTHER_MODEL = "gemma3:270m"
OTHER_DIGEST = "sha256:e7d36fb2c3b3293cfe56d55889867a064b3a2b22e98335f2e6e8a387e081d6be"
CREATED = "2026-01-10T08:00:00Z"


def make_assistant(
    name: str = "support-bot", *, spec: Object | None = None, status: Object | None = None, **metadata: Any
) -> Object:
    """An Active Support assistant with an inline prompt and a model whose digest is given."""
    default = {
        "type": "Support",
        "lifecycle": "Active",
        "model": {"name": MODEL, "digest": MODEL_DIGEST},
        "systemPrompt": {"inline": "Answer in a formal tone."},
        "revisionHistoryLimit": 20,
    }
    return _object("Assistant", name, default, spec, status, metadata)


def make_template(
    name: str = "rag-support", *, spec: Object | None = None, status: Object | None = None, **metadata: Any
) -> Object:
    """A template with one required variable `tone`."""
    default = {
        "category": "Support",
        "variables": [{"name": "tone", "type": "String", "required": True}],
        "template": {
            "model": {"name": MODEL},
            "options": {"temperature": "0.2", "topP": "0.9", "seed": 7, "maxTokens": 1024},
            "runner": {"numCtx": 8192, "shift": False},
            "systemPrompt": {
                "inline": "Answer in a ${vars.tone} tone. Use only the given sources. Prices are in €.",
            },
        },
    }
    return _object("AssistantTemplate", name, default, spec, status, metadata)


def make_snapshot(**fields: Any) -> Object:
    """A small valid snapshot of schemaVersion 1; a field that is given as None is left out."""
    default = {
        "model": {"name": MODEL, "digest": MODEL_DIGEST},
        "options": {"temperature": "0.3"},
        "runner": {"numCtx": 4096},
        "prompts": [{"name": "system", "role": "Primary", "text": "Answer in a formal tone."}],
        "responseFormat": {"type": "Text"},
        "capabilities": ["Chat", "Completion"],
        "clientOverrides": ["maxTokens", "seed", "stop"],
    }
    return _merged(default, fields)


def make_revision(
    assistant: str = "support-bot",
    *,
    snapshot: Object | None = None,
    spec: Object | None = None,
    status: Object | None = None,
    **metadata: Any,
) -> Object:
    """A revision made by the operator whose name and digest fit its snapshot (default: `make_snapshot()`)."""
    from retinue.domain.revision import digest_of, revision_name

    content = make_snapshot() if snapshot is None else snapshot
    digest = digest_of(content)
    default = {
        "assistant": assistant,
        "schemaVersion": 1,
        "digest": digest,
        "snapshot": content,
        "provenance": {"generation": 1},
    }
    labels = {"retinue.dev/made-by": "operator", "retinue.dev/assistant": assistant}
    metadata = {"labels": labels, "name": revision_name(assistant, digest), **metadata}
    return _object("AssistantRevision", metadata.pop("name"), default, spec, status, metadata)


def make_deployment(
    name: str = "support-bot", *, spec: Object | None = None, status: Object | None = None, **metadata: Any
) -> Object:
    """A deployment of `support-bot` that follows the latest revision with one replica on the default profile."""
    default = {"assistant": "support-bot", "source": {"latest": {}}, "replicas": 1, "suspend": False}
    return _object("AssistantDeployment", name, default, spec, status, metadata)


def make_model_server(
    *,
    model: str = MODEL,
    digest: str = MODEL_DIGEST,
    runner: Object | None = None,
    profile: str | None = "small-cpu",
    external_server: str | None = None,
    pool: str = "default/development",
    dedicated_to: str | None = None,
    status: Object | None = None,
    **metadata: Any,
) -> Object:
    """A ModelServer whose key and name fit what it serves. With `external_server` the profile is left out."""
    from retinue.domain.names import model_server_name, model_server_spec
    from retinue.resources.v1alpha1.content import Model, Runner

    spec = model_server_spec(
        Model(name=model, digest=digest),
        Runner.model_validate(runner or {"numCtx": 4096}),
        profile=None if external_server else profile,
        external_server=external_server,
        pool=pool,
        dedicated_to=dedicated_to,
    )
    metadata = {"namespace": MODELS_NAMESPACE, "name": model_server_name(model, spec.key), **metadata}
    return _object("ModelServer", metadata.pop("name"), spec.to_object(), None, status, metadata)


def make_namespace(
    name: str = NAMESPACE, *, environment: str | None = "development", team: str | None = None
) -> Object:
    """A namespace with the environment label, as the platform team sets it."""
    labels = {"retinue.dev/environment": environment, "retinue.dev/team": team}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {k: v for k, v in labels.items() if v is not None}},
    }


def condition(kind: str, status: str = "True", reason: str = "AsExpected", message: str = "", **more: Any) -> Object:
    """One condition; `more` overrides observedGeneration and lastTransitionTime."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": 1,
        "lastTransitionTime": CREATED,
        **more,
    }


def _object(
    kind: str, name: str, default: Object, spec: Object | None, status: Object | None, metadata: Object
) -> Object:
    namespace = metadata.get("namespace", NAMESPACE)
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{kind.lower()}-{namespace}-{name}",
            "generation": 1,
            "resourceVersion": "1",
            "creationTimestamp": CREATED,
            **metadata,
        },
        "spec": _merged(default, spec or {}),
        "status": {"observedGeneration": -1} if status is None else status,
    }


def _merged(default: Object, over: Object) -> Object:
    return {key: value for key, value in {**default, **over}.items() if value is not None}
