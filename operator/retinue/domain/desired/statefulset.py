"""The StatefulSet of a ModelServer: model pods in which nothing but the agent can be reached."""

from typing import Any, Final

from retinue.domain.desired.agent_config import CREDENTIAL_FOLDER, CREDENTIAL_KEY, GRACE_SECONDS, agent_config
from retinue.domain.desired.labels import AGENT_PORT, Object, child, labels, selector
from retinue.domain.inference import request_constants
from retinue.resources.platform import PlatformConfig, Profile, Storage
from retinue.resources.v1alpha1.modelserver import ModelServer

USER_ID: Final = 10001
"""User, group and fsGroup of model pods."""
MODELS_VOLUME: Final = "models"
MODELS_PATH: Final = "/models"
HOME_PATH: Final = "/home/ollama"
SMALL_VOLUME: Final = "64Mi"
"""Limit of the volumes for Ollama's key pair and temporary files."""

LOCKED: Final[Object] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""Security context of both containers (restricted Pod Security Standard)."""


def build_stateful_set(
    server: ModelServer, profile: Profile, platform: PlatformConfig, replicas: int, live: Object | None = None
) -> Object | None:
    """The StatefulSet for `replicas` model pods, or None for an external server.

    `live` is the StatefulSet as it exists: claim templates cannot be changed, so its storage is kept as it was made,
    whatever the profile says now. Everything else follows the profile and rolls in place.
    """
    if server.spec.external_server is not None:
        return None
    storage = stored_storage(live) if live is not None else profile.storage
    claims = _claim_templates(storage)
    spec: Object = {
        "replicas": replicas,
        "serviceName": server.name,
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate"},
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": selector(server.name)},
        "template": {
            "metadata": {"labels": labels(server.name)},
            "spec": _pod(server, profile, platform, profile.storage.size if storage.ephemeral else None),
        },
    }
    if claims:
        spec["volumeClaimTemplates"] = claims
        spec["persistentVolumeClaimRetentionPolicy"] = {"whenDeleted": "Delete", "whenScaled": "Retain"}
    return child("apps/v1", "StatefulSet", server, spec)


def stored_storage(live: Object) -> Storage:
    """The storage that an existing StatefulSet was made with."""
    templates = live.get("spec", {}).get("volumeClaimTemplates") or []
    if not templates:
        return Storage(ephemeral=True)
    claim = templates[0].get("spec", {})
    return Storage(
        size=str(claim.get("resources", {}).get("requests", {}).get("storage", Storage().size)),
        storage_class_name=claim.get("storageClassName"),
    )


def _claim_templates(storage: Storage) -> list[Object]:
    if storage.ephemeral:
        return []
    spec: Object = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": storage.size}},
        "volumeMode": "Filesystem",
    }
    if storage.storage_class_name is not None:
        spec["storageClassName"] = storage.storage_class_name
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": MODELS_VOLUME},
            "spec": spec,
            # What the API server would fill in: the list is owned as a whole, so a gap in it would look like a change.
            "status": {"phase": "Pending"},
        }
    ]


def _pod(server: ModelServer, profile: Profile, platform: PlatformConfig, ephemeral_size: str | None) -> Object:
    """The pod. Ollama is a native side container, so that it stops only after the agent has drained and ended."""
    volumes: list[Object] = [
        {"name": "home", "emptyDir": {"sizeLimit": SMALL_VOLUME}},
        {"name": "tmp", "emptyDir": {"sizeLimit": SMALL_VOLUME}},
        {
            "name": "credential",
            "secret": {
                "secretName": platform.agent_credential_secret,
                "items": [{"key": CREDENTIAL_KEY, "path": CREDENTIAL_KEY}],
            },
        },
    ]
    if ephemeral_size is not None:
        volumes.append({"name": MODELS_VOLUME, "emptyDir": {"sizeLimit": ephemeral_size}})
    pod: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(server.name)},
            }
        ],
        "initContainers": [_ollama(server, profile)],
        "containers": [_agent(server, profile, platform)],
        "volumes": volumes,
    }
    optional: dict[str, Any] = {
        "nodeSelector": profile.node_selector,
        "tolerations": profile.tolerations,
        "runtimeClassName": profile.runtime_class_name,
        "priorityClassName": profile.priority_class_name,
        "imagePullSecrets": [{"name": name} for name in profile.image_pull_secrets],
    }
    pod.update({key: value for key, value in optional.items() if value})
    return pod


def _ollama(server: ModelServer, profile: Profile) -> Object:
    environment = {
        "HOME": HOME_PATH,
        "OLLAMA_CONTEXT_LENGTH": str(server.spec.runner.num_ctx),
        "OLLAMA_HOST": "127.0.0.1:11434",
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_MAX_LOADED_MODELS": "1",
        "OLLAMA_MODELS": MODELS_PATH,
        "OLLAMA_NOPRUNE": "1",
        "OLLAMA_NO_CLOUD": "1",
        "OLLAMA_NUM_PARALLEL": str(profile.slots),
        "TMPDIR": "/tmp",  # noqa: S108 (a volume of the pod's own)
    }
    container: Object = {
        "name": "ollama",
        "image": profile.image,
        "imagePullPolicy": profile.image_pull_policy,
        # Started before the agent and stopped after it; restarted like any container.
        "restartPolicy": "Always",
        "env": [{"name": name, "value": value} for name, value in sorted(environment.items())],
        # The agent knows whether Ollama hangs; it may be minutes late itself while its image is pulled.
        "livenessProbe": {
            **_probe("/livez/ollama", period=20, failures=6, port=AGENT_PORT),
            "initialDelaySeconds": 30,
        },
        "securityContext": LOCKED,
        "volumeMounts": [
            {"name": MODELS_VOLUME, "mountPath": MODELS_PATH},
            {"name": "home", "mountPath": HOME_PATH},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
    }
    if profile.resources:
        container["resources"] = profile.resources
    return container


def _agent(server: ModelServer, profile: Profile, platform: PlatformConfig) -> Object:
    container: Object = {
        "name": "agent",
        "image": platform.agent_image,
        "imagePullPolicy": platform.agent_image_pull_policy,
        "args": ["agent"],
        "env": [
            {
                "name": "RETINUE_AGENT_CONFIG",
                "value": agent_config(server, profile, platform, request_constants(server.spec.runner, profile)),
            }
        ],
        "ports": [{"name": "agent", "containerPort": AGENT_PORT, "protocol": "TCP"}],
        # Start and liveness ask only whether the agent runs: a pull may take an hour and must not be killed for it.
        "startupProbe": _probe("/livez", period=1, failures=60),
        "livenessProbe": _probe("/livez", period=10, failures=6),
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        "securityContext": LOCKED,
        "volumeMounts": [{"name": "credential", "mountPath": CREDENTIAL_FOLDER, "readOnly": True}],
    }
    if profile.agent_resources:
        container["resources"] = profile.agent_resources
    return container


def _probe(path: str, *, period: int, failures: int, port: int | str = "agent") -> Object:
    return {
        "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
