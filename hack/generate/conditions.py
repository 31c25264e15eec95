"""docs/operations/conditions.md: every reason of a condition, where it occurs, what it means and what to do.

The texts are the docstrings of the constants in resources/reasons.py; where each occurs stands here.
"""

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from generate.files import HEADER, Files
from retinue.resources import reasons as r

OWNED: dict[str, str] = {}
PATH = "docs/operations/conditions.md"
SOURCE: Final = Path(r.__file__)

_INTRO = """\
# Conditions and their reasons

Every object of retinue has `Ready`; the reason and the message of `Ready` are those of `Reconciling` or `Stalled` while
one of them is there.

| `Ready` | beside it | means |
|---|---|---|
| `True` | nothing | it does what its spec says |
| `Unknown` | `Reconciling` | work is under way and ends by itself |
| `Unknown` | nothing | somebody asked it to do nothing (`Suspended` and the like) |
| `False` | `Stalled` | it goes on only when somebody changes something; the message says what |

`Reconciling` and `Stalled` are absent unless they are `True`. The message names field, cause and what to do; the reason
is for programs and never changes its meaning. Events carry the same reasons: one Normal event when an object becomes
Ready, one Warning event when it becomes Stalled or is so for another reason.

```
kubectl get ast,astdep,ms -A                                   # the message of Ready is the column STATUS
kubectl -n bots describe astdep helper                         # all conditions and events
kubectl -n bots wait astdep helper --for=condition=Ready
```
"""

READY = "`Ready`"
WORKING = "`Reconciling`"
STUCK = "`Stalled`"
PAUSED = "`Ready` Unknown"

_AGENT_WORKING = (
    r.STARTING,
    r.PULLING,
    r.VERIFYING,
    r.LOADING,
    r.WARMING,
    r.PULL_FAILED,
    r.PULL_STALLED,
    r.PULL_DAMAGED,
    r.REGISTRY_UNREACHABLE,
    r.LOAD_FAILED,
    r.OLLAMA_UNREACHABLE,
    r.OLLAMA_TIMED_OUT,
    r.OLLAMA_HUNG,
    r.OLLAMA_ERROR,
    r.BUSY,
    r.ACCESS_DENIED,
    r.AGENT_UNREACHABLE,
    r.AGENT_REFUSED,
    r.FAILED,
)
_AGENT_STUCK = (
    r.MODEL_UNKNOWN,
    r.MODEL_INVALID,
    r.NOT_SUPPORTED,
    r.TAG_MOVED,
    r.DIGEST_DIFFERS,
    r.DISK_FULL,
    r.REGISTRY_DENIED,
    r.NOT_ENOUGH_MEMORY,
    r.OLLAMA_TOO_OLD,
    r.PULL_DEADLINE_EXCEEDED,
)

WHERE: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "Assistant": {
        READY: (r.REVISION_CREATED, r.DRAFT, r.INACTIVE, r.ARCHIVED),
        WORKING: (r.MODEL_RESOLVING, r.MAKING_REVISION, r.TEMPLATE_NOT_FOUND, r.CONFIG_MAP_NOT_FOUND),
        STUCK: (
            r.MODEL_MISSING,
            r.MODEL_NAME_INVALID,
            r.MODEL_REGISTRY_NOT_ALLOWED,
            r.MODEL_UNKNOWN,
            r.MODEL_NOT_RESOLVED,
            r.TEMPLATE_NOT_FOUND,
            r.TEMPLATE_INVALID,
            r.VARIABLE_UNKNOWN,
            r.VARIABLE_MISSING,
            r.VARIABLE_INVALID,
            r.CONFIG_MAP_NOT_FOUND,
            r.CONFIG_MAP_KEY_MISSING,
            r.SYSTEM_PROMPT_INVALID,
            r.RESPONSE_FORMAT_INVALID,
            r.SNAPSHOT_TOO_LARGE,
            r.DIGEST_CONFLICT,
            r.DIGEST_INVALID,
            r.SCHEMA_TOO_NEW,
            r.REFUSED,
        ),
        "`ModelResolved`": (
            r.DIGEST_GIVEN,
            r.DIGEST_RESOLVED,
            r.MODEL_RESOLVING,
            r.MODEL_UNKNOWN,
            r.MODEL_NOT_RESOLVED,
        ),
    },
    "AssistantTemplate": {READY: (r.TEMPLATE_VALID,), STUCK: (r.TEMPLATE_INVALID,)},
    "AssistantRevision": {
        READY: (r.DIGEST_VALID,),
        WORKING: (r.WAITING_FOR_NUMBER,),
        STUCK: (r.DIGEST_INVALID, r.SCHEMA_TOO_NEW),
        "answer 503 of the gateway": (r.REVISION_NOT_SUPPORTED,),
    },
    "AssistantDeployment": {
        READY: (r.SERVING, r.SCALED_TO_ZERO),
        PAUSED: (r.SUSPENDED, r.ASSISTANT_INACTIVE, r.ASSISTANT_ARCHIVED),
        WORKING: (
            r.ASSISTANT_IS_DRAFT,
            r.WAITING_FOR_REVISION,
            r.ASSISTANT_NOT_FOUND,
            r.REVISION_NOT_FOUND,
            r.MODEL_SERVER_MISSING,
            r.ROLLOUT_IN_PROGRESS,
            r.PODS_STARTING,
        ),
        STUCK: (
            r.ENVIRONMENT_UNKNOWN,
            r.ASSISTANT_NOT_FOUND,
            r.ASSISTANT_STALLED,
            r.REVISION_NOT_FOUND,
            r.REVISION_OF_ANOTHER_ASSISTANT,
            r.DIGEST_INVALID,
            r.SCHEMA_TOO_NEW,
            r.PROFILE_NOT_ALLOWED,
            r.EXTERNAL_SERVER_UNKNOWN,
            r.MODEL_SERVER_CONFLICT,
            r.PROGRESS_DEADLINE_EXCEEDED,
            r.REFUSED,
        ),
        "event only": (r.REVISION_ACTIVATED,),
        "`Available`": (
            r.SERVING,
            r.NOTHING_ACTIVE,
            r.NO_READY_POD,
            r.SCALED_TO_ZERO,
            r.SUSPENDED,
            r.ASSISTANT_INACTIVE,
            r.ASSISTANT_ARCHIVED,
        ),
    },
    "ModelServer": {
        READY: (r.ALL_PODS_READY, r.EXTERNAL_SERVER_READY, r.SCALED_TO_ZERO),
        WORKING: (
            r.PODS_STARTING,
            *_AGENT_WORKING,
            r.ROLLING_OUT,
            r.SCALING_DOWN,
            r.OLD_CHILDREN_LEAVING,
            r.UNSCHEDULABLE,
            r.SCHEDULER_ERROR,
            r.SCHEDULING_GATED,
            r.IMAGE_PULL_FAILED,
            r.CONTAINER_NOT_STARTED,
            r.CONTAINER_CRASHES,
            r.OUT_OF_MEMORY,
            r.NODE_LOST,
            r.POD_NOT_CREATED,
            r.ASKING,
            r.EXTERNAL_SERVER_UNREACHABLE,
        ),
        STUCK: (
            *_AGENT_STUCK,
            r.QUOTA_EXCEEDED,
            r.POD_SECURITY_REFUSED,
            r.POD_REFUSED,
            r.PROFILE_UNKNOWN,
            r.EXTERNAL_SERVER_UNKNOWN,
            r.REFUSED,
        ),
        "`ModelPresent`": (r.ON_DISK, r.NOT_ON_DISK, r.NO_PODS, r.NOT_REACHABLE),
        "`ModelMatched`": (
            r.DIGEST_MATCHES,
            r.NOT_PRESENT_YET,
            r.TAG_MOVED,
            r.DIGEST_DIFFERS,
            r.NO_PODS,
            r.NOT_REACHABLE,
        ),
        "`Warm`": (r.LOADED, r.NOT_LOADED, r.NO_PODS, r.NOT_REACHABLE),
    },
}
"""Kind to the condition (or the form of Ready) to the reasons that it can have."""

_AFTER = {
    "AssistantDeployment": "While pods are missing it is `Reconciling` or `Stalled` with the reason of its "
    "ModelServer, see there; `ModelMatched` is copied from it."
}


@dataclass(frozen=True, slots=True)
class Reason:
    """One constant of resources/reasons.py."""

    name: str
    value: str
    meaning: str
    action: str


def constants() -> list[Reason]:
    """All reasons in the order in which they stand. Raises ValueError for one without a meaning or without `Do:`."""
    body = ast.parse(SOURCE.read_text(encoding="utf-8")).body
    found = []
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        text = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = " ".join(str(after.value.value).split())
        meaning, _, action = text.partition(" Do: ")
        if not isinstance(node.value, ast.Constant) or not meaning or not action:
            raise ValueError(f"{SOURCE.name}: {node.target.id} needs a text below it: what it means. Do: what to do.")
        found.append(Reason(node.target.id, str(node.value.value), meaning, action[0].upper() + action[1:]))
    return found


def files() -> Files:
    """The one page."""
    known = {reason.value: reason for reason in constants()}
    placed = {value for conditions in WHERE.values() for values in conditions.values() for value in values}
    if missing := sorted(set(known) - placed):
        raise ValueError(f"hack/generate/conditions.py: WHERE does not say where these occur: {', '.join(missing)}")
    lines = [f"<!-- {HEADER} -->", "", _INTRO]
    for kind, conditions in WHERE.items():
        lines += [f"## {kind}", ""]
        if kind in _AFTER:
            lines += [_AFTER[kind], ""]
        lines += ["| Condition | Reason | Meaning | What to do |", "|---|---|---|---|"]
        for condition, values in conditions.items():
            for value in values:
                reason = known[value]
                shown = "<Kind>Refused" if value == r.REFUSED else value
                lines.append(f"| {condition} | `{shown}` | {_cell(reason.meaning)} | {_cell(reason.action)} |")
        lines.append("")
    return {PATH: "\n".join(lines)}


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
