"""charts/retinue/README.md: every value with its default and meaning, from the comments in values.yaml."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from generate.files import HEADER, Files

OWNED: dict[str, str] = {}
PATH = "charts/retinue/README.md"
VALUES: Final = Path(__file__).resolve().parents[2] / "charts" / "retinue" / "values.yaml"

_INTRO = """\
# The retinue chart

Operator, gateway, setup Job, models namespace, CRDs, rights, and a small Postgres for trials. Tried with Helm 3.19 on
Kubernetes 1.34. The long form of this page is [docs/guides/install.md](../../docs/guides/install.md).

## Install

```
helm install retinue charts/retinue --namespace retinue-system --create-namespace --wait
kubectl label namespace bots retinue.dev/environment=development     # each namespace with assistants is an environment
kubectl apply -f examples/quickstart/
```

## Upgrade

```
helm get values retinue --namespace retinue-system -o yaml > values.yaml      # edit it
helm upgrade retinue charts/retinue --namespace retinue-system --values values.yaml --wait
kubectl get astdep -A                                 # an edited profile replaces its pods in place, one by one
```

## Uninstall

```
helm uninstall retinue --namespace retinue-system --wait     # CRDs, assistants, credentials and history stay
kubectl get crd -o name | grep retinue.dev | xargs kubectl delete      # deletes every assistant
kubectl delete namespace retinue-system                                # deletes credentials and history
```

## Values

values.schema.json refuses unknown keys and wrong values, and names them.
"""


def files() -> Files:
    """The one page. Raises ValueError for a value that no comment explains."""
    text = VALUES.read_text(encoding="utf-8")
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    lines = [f"<!-- {HEADER} -->", "", _INTRO, "| Value | Default | Meaning |", "|---|---|---|"]
    for path, default, meaning in _rows(root, text.splitlines(), ""):
        lines.append(f"| `{path}` | {_cell(default)} | {_cell(meaning)} |")
    return {PATH: "\n".join(lines) + "\n"}


def _rows(node: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[tuple[str, str, str]]:
    """(path, default, meaning) of every value; a map is a row of its own only where it is explained or empty."""
    for key, value in node.value:
        path = f"{prefix}.{key.value}" if prefix else key.value
        meaning = _comment(lines, key.start_mark.line)
        inner, suffix = _inner(value)
        if inner is None or _small(inner):
            if not meaning:
                raise ValueError(f"{VALUES.name}: {path} needs a comment above it that begins with `# -- `")
            yield path, f"`{_default(value)}`", meaning
            continue
        if meaning:
            yield path, "", meaning
        yield from _rows(inner, lines, path + suffix)


def _inner(value: yaml.Node) -> tuple[yaml.MappingNode | None, str]:
    """The map below a value: its own, or the first item of a list of maps."""
    if isinstance(value, yaml.MappingNode) and value.value:
        return value, ""
    if isinstance(value, yaml.SequenceNode) and value.value and isinstance(value.value[0], yaml.MappingNode):
        return value.value[0], "[]"
    return None, ""


def _small(node: yaml.MappingNode) -> bool:
    """A map in one line, or `resources`: it is set as a whole, so it is one row."""
    return bool(node.flow_style) or {key.value for key, _ in node.value} <= {"requests", "limits"}


def _comment(lines: list[str], line: int) -> str:
    """The comment that begins with `# -- ` and ends directly above the line."""
    found: list[str] = []
    for above in reversed(lines[:line]):
        text = above.strip().removeprefix("- ")
        if not text.startswith("#"):
            return ""
        found.insert(0, text.lstrip("# "))
        if text.startswith("# -- "):
            found[0] = text.removeprefix("# -- ")
            return " ".join(found)
    return ""


def _default(node: yaml.Node) -> str:
    value: Any = yaml.safe_load(yaml.serialize(node))
    if isinstance(value, str):
        return value or '""'
    return yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False).split("\n...")[0].strip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")
