"""Names that every part of retinue shares: API group, labels, annotations, condition types.

Condition types and reasons (`reasons.py`) are API: `kubectl wait`, Argo CD, Flux and people match on them.
"""

from typing import Final

GROUP: Final = "retinue.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
FIELD_MANAGER: Final = "retinue"
"""The one server-side-apply field manager of the operator."""

SCHEMA_REVISION: Final = "1"
"""Number of the CRD schemas; each role compares it with the annotation `retinue.dev/schema` of the CRDs at start."""

# Labels and annotations -------------------------------------------------------------------------------------------
LABEL_ENVIRONMENT: Final = "retinue.dev/environment"
"""On a namespace: which environment it is. Set by the platform team; no retinue object names an environment."""
LABEL_TEAM: Final = "retinue.dev/team"
"""On a namespace: which team owns it. Absent means `default`."""
LABEL_DEPLOYMENT: Final = "retinue.dev/deployment"
"""Key of `status.selector` of an AssistantDeployment; unique, and on no pod."""
LABEL_MODEL_SERVER: Final = "retinue.dev/model-server"
"""On every child of a ModelServer: the name of that ModelServer."""
LABEL_ASSISTANT: Final = "retinue.dev/assistant"
"""On an AssistantRevision made by the operator: the Assistant that it was made from."""
LABEL_MADE_BY: Final = "retinue.dev/made-by"
"""On an AssistantRevision: `operator` when the operator made it. Only those are ever collected."""
LABEL_PRESET: Final = "retinue.dev/preset"
"""On an AssistantTemplate that was installed as a preset."""
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
"""Standard label; `retinue` on everything that the operator makes."""
LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
ANNOTATION_SCHEMA: Final = "retinue.dev/schema"
"""On each CRD: SCHEMA_REVISION of the release that installed it."""

MANAGED_BY: Final = "retinue"
DEFAULT_TEAM: Final = "default"

# Condition types --------------------------------------------------------------------------------------------------
READY: Final = "Ready"
"""True: does what its spec says. Unknown: working on it. False: only together with Stalled."""
RECONCILING: Final = "Reconciling"
"""Present only while True: work is under way and will end by itself."""
STALLED: Final = "Stalled"
"""Present only while True: cannot go on until somebody changes something; the message says what."""
MODEL_RESOLVED: Final = "ModelResolved"
"""On Assistant: the model's name has been turned into a digest."""
AVAILABLE: Final = "Available"
"""On AssistantDeployment: the active revision can be asked right now."""
MODEL_PRESENT: Final = "ModelPresent"
"""On ModelServer: every wanted pod holds the model's files."""
MODEL_MATCHED: Final = "ModelMatched"
"""On ModelServer and AssistantDeployment: what is on disk is the digest that was asked for."""
WARM: Final = "Warm"
"""On ModelServer: the model is loaded and has produced a token on every wanted pod."""

# Kinds ------------------------------------------------------------------------------------------------------------
KINDS: Final = {
    "Assistant": "assistants",
    "AssistantTemplate": "assistanttemplates",
    "AssistantRevision": "assistantrevisions",
    "AssistantDeployment": "assistantdeployments",
    "ModelServer": "modelservers",
}
"""Kind to plural of every custom resource of this release."""
