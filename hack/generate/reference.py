"""docs/reference/crds.md: every field of every kind, from the same schemas that the API server gets."""

from collections.abc import Iterator
from typing import Any

from generate.files import HEADER, Files
from retinue.resources.schema import RESOURCES, crd_of

OWNED: dict[str, str] = {}
PATH = "docs/reference/crds.md"
_INTRO = """\
# Custom resources

Every field of every kind, as the API server checks it. The same texts appear with `kubectl explain`, for example
`kubectl explain assistant.spec.model`. A star marks a field that must be set (inside its parent, if that is set).
"""


def files() -> Files:
    """The one page."""
    parts = [f"<!-- {HEADER} -->\n\n{_INTRO}"]
    parts += [_kind(crd_of(resource)) for resource in RESOURCES]
    return {PATH: "\n".join(parts)}


def _kind(crd: dict[str, Any]) -> str:
    names = crd["spec"]["names"]
    version = crd["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    lines = [
        f"## {names['kind']}",
        "",
        schema["description"],
        "",
        f"`kubectl get {names['plural']}`, short `{names['shortNames'][0]}`; apiVersion "
        f"`{crd['spec']['group']}/{version['name']}`, namespaced.",
        "",
    ]
    for part in ("spec", "status"):
        node = schema["properties"][part]
        lines += [f"### {names['kind']}.{part}", "", node["description"], ""]
        lines += ["| Field | Type | Default | Description |", "|---|---|---|---|"]
        lines += [_row(*entry) for entry in _fields(node, "")]
        lines.append("")
    checks = list(_rules(schema, ""))
    if checks:
        lines += ["### Rules", "", "| Where | What is refused otherwise | Rule |", "|---|---|---|"]
        lines += [
            f"| `{where or names['kind']}` | {_cell(r['message'])} | `{_cell(r['rule'])}` |" for where, r in checks
        ]
        lines.append("")
    return "\n".join(lines)


def _fields(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    required = set(node.get("required", []))
    for name, child in node.get("properties", {}).items():
        where = f"{path}.{name}" if path else name
        yield where, child, name in required
        inner = child.get("items", child)
        suffix = "[]" if "items" in child else ""
        yield from _fields(inner, where + suffix)


def _row(path: str, node: dict[str, Any], required: bool) -> str:
    default = node.get("default")
    shown = "" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    text = node["description"].removesuffix(f" Default: {shown.strip('`')}.") if shown else node["description"]
    star = " *" if required else ""
    return f"| `{path}`{star} | {_type(node)} | {shown} | {_cell(text)} |"


def _type(node: dict[str, Any]) -> str:
    kind = node["type"]
    if "enum" in node:
        return " \\| ".join(f"`{value}`" for value in node["enum"])
    if kind == "array":
        return f"list (at most {node['maxItems']}) of {_type(node['items'])}"
    if kind == "integer":
        return f"integer ({node['minimum']} to {node['maximum']})"
    if kind == "string" and "maxLength" in node:
        return f"string (at most {node['maxLength']} characters)"
    if kind == "string" and "format" in node:
        return str(node["format"])
    return str(kind)


def _rules(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, str]]]:
    for rule in node.get("x-kubernetes-validations", []):
        yield path, rule
    for name, child in node.get("properties", {}).items():
        yield from _rules(child, f"{path}.{name}" if path else name)
    if "items" in node:
        yield from _rules(node["items"], f"{path}[]")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
