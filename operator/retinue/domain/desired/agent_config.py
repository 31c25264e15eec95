"""The one JSON document that tells an agent which model its pod serves and how."""

from typing import Any, Final

import rfc8785

from retinue.domain.desired.labels import AGENT_PORT
from retinue.domain.model_name import resolve
from retinue.domain.violation import Violation
from retinue.resources.platform import PlatformConfig, Profile
from retinue.resources.v1alpha1.modelserver import ModelServer

CREDENTIAL_FOLDER: Final = "/etc/retinue/agent"
CREDENTIAL_KEY: Final = "sha256"
OLLAMA_URL: Final = "http://127.0.0.1:11434"
"""Ollama listens on loopback of the pod only."""
PULL_SECONDS: Final = 3600
"""After this time an agent gives one attempt to pull up and starts again where it stood. Deadlines of a rollout are the
deployments' own and not the pod's: a change of them must not restart pods."""
LOAD_SECONDS: Final = 600
"""After this time an agent gives one attempt to load the model up."""
GRACE_SECONDS: Final = 60
"""Time that a pod has to stop; the agent drains within it and leaves Ollama the rest."""
DRAIN_GRACE_SECONDS: Final = 5
"""Seconds in which a stopping agent still takes requests, until every gateway has seen that the pod leaves."""
DRAIN_SECONDS: Final = 45
"""Seconds that running answers then get."""


def agent_config(server: ModelServer, profile: Profile, platform: PlatformConfig, constants: dict[str, Any]) -> str:
    """The value of RETINUE_AGENT_CONFIG: canonical JSON, so that the same content never rolls a pod."""
    model = server.spec.model
    found = resolve(model.name, platform.model_registries)
    config: dict[str, Any] = {
        "model": model.name,
        "digest": model.digest,
        # A registry that is not listed any more leaves the name as written: the pull then says what is wrong.
        "pullName": model.name if isinstance(found, Violation) else found.pull_name,
        "insecure": not isinstance(found, Violation) and found.registry.insecure,
        "constants": constants,
        "slots": profile.slots,
        "queue": profile.queue,
        "credentialFile": f"{CREDENTIAL_FOLDER}/{CREDENTIAL_KEY}",
        "pullSeconds": PULL_SECONDS,
        "loadSeconds": LOAD_SECONDS,
        "drainGraceSeconds": DRAIN_GRACE_SECONDS,
        "drainSeconds": DRAIN_SECONDS,
        "ollama": OLLAMA_URL,
        "port": AGENT_PORT,
    }
    return rfc8785.dumps(config).decode()
