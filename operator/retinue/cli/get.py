"""`retinue get`: objects as tables, YAML or JSON; the columns are those of the CRDs."""

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retinue.cli.cluster import Access, ContextOption, KubeconfigOption, NamespaceOption, list_all, run
from retinue.cli.exits import USAGE, CommandError
from retinue.cli.screen import age, aligned, console

if TYPE_CHECKING:
    from retinue.kube.client import KubeClient, Object, Resource
    from retinue.resources.crd import Kind

_FILTER = re.compile(r"""^(\w+)\[\?\(@\.(\w+)\s*==\s*["'](\w+)["']\)\]$""")


def register(app: typer.Typer) -> None:
    """Add `get` to the command line."""

    @app.command()
    def get(
        kind: Annotated[
            str,
            typer.Argument(
                help="assistants, templates, revisions, deployments, modelservers, or a short name (ast ...)."
            ),
        ],
        name: Annotated[str | None, typer.Argument(help="One object; default: all.", show_default=False)] = None,
        namespace: NamespaceOption = None,
        all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="In every namespace.")] = False,
        output: Annotated[str, typer.Option("--output", "-o", help="table, wide, json, yaml or name.")] = "table",
        kubeconfig: KubeconfigOption = None,
        context: ContextOption = None,
    ) -> None:
        """Show objects of retinue.

        Examples: retinue get deployments -A; retinue get ast helper -o yaml; retinue get ms -A -o wide
        """
        import time

        resource = resource_of(kind)
        if output not in ("table", "wide", "json", "yaml", "name"):
            raise CommandError(f"--output {output}: use table, wide, json, yaml or name", USAGE)
        access = Access(kubeconfig, context, namespace)
        where = None if all_namespaces else access.default_namespace()

        async def read(client: "KubeClient") -> "list[Object]":
            if name is not None:
                return [await client.get(resource, name, where or access.default_namespace())]
            return await list_all(client, resource, where)

        objects = run(access, read)
        _print(resource, objects, output, show_namespace=all_namespaces, single=name is not None, now=time.time())


def custom_kinds() -> "tuple[Kind, ...]":
    """Names and columns of retinue's own kinds."""
    from retinue.resources.v1alpha1.assistant import Assistant
    from retinue.resources.v1alpha1.assistantdeployment import AssistantDeployment
    from retinue.resources.v1alpha1.assistantrevision import AssistantRevision
    from retinue.resources.v1alpha1.assistanttemplate import AssistantTemplate
    from retinue.resources.v1alpha1.modelserver import ModelServer

    kinds = (Assistant, AssistantTemplate, AssistantRevision, AssistantDeployment, ModelServer)
    return tuple(k.KIND for k in kinds)


def resource_of(kind: str) -> "Resource":
    """The resource that people mean by a name: plural, short name, or the last word of it."""
    from retinue.kube import resources
    from retinue.kube.client import Resource

    wanted = kind.lower()
    by_kind = {r.kind: r for r in vars(resources).values() if isinstance(r, Resource)}
    names: dict[str, Resource] = {}
    for model in custom_kinds():
        resource = by_kind[model.kind]
        last = model.plural.removeprefix("assistant")
        for alias in (model.plural, model.singular, last, last.removesuffix("s"), *model.short_names):
            names.setdefault(alias, resource)
    if wanted not in names:
        raise CommandError(
            f"unknown kind {kind!r}; use assistants, templates, revisions, deployments or modelservers", USAGE
        )
    return names[wanted]


def _print(
    resource: "Resource", objects: "list[Object]", output: str, *, show_namespace: bool, single: bool, now: float
) -> None:
    import json

    import yaml

    for obj in objects:
        obj.get("metadata", {}).pop("managedFields", None)
        obj.setdefault("apiVersion", resource.api_version)
        obj.setdefault("kind", resource.kind)
    whole: Any = objects[0] if single else {"apiVersion": "v1", "kind": "List", "items": objects}
    if output == "json":
        print(json.dumps(whole, indent=2, ensure_ascii=False))
    elif output == "yaml":
        print(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True), end="")
    elif output == "name":
        for obj in objects:
            print(f"{resource.kind.lower()}.{resource.group}/{obj['metadata']['name']}")
    elif not objects:
        console(stderr=True).print(f"No {resource.plural} here. All namespaces: retinue get {resource.plural} -A")
    else:
        for line in aligned(_rows(resource, objects, wide=output == "wide", show_namespace=show_namespace, now=now)):
            print(line)


def _rows(
    resource: "Resource", objects: "list[Object]", *, wide: bool, show_namespace: bool, now: float
) -> list[list[str]]:
    model = next(m for m in custom_kinds() if resource.kind == m.kind)
    columns = [c for c in model.columns if wide or not c.wide]
    rows = [[*(["NAMESPACE"] if show_namespace else []), "NAME", *(c.name.upper() for c in columns)]]
    for obj in sorted(objects, key=lambda o: (o["metadata"].get("namespace", ""), o["metadata"]["name"])):
        cells = [obj["metadata"].get("namespace", "")] if show_namespace else []
        cells.append(obj["metadata"]["name"])
        for column in columns:
            value = at_path(obj, column.path)
            cells.append(age(value, now) if column.type == "date" else "" if value is None else str(value))
        rows.append(cells)
    return rows


def at_path(obj: Any, path: str) -> Any:
    """The value at the part of JSONPath that printer columns use: `.a.b`, `.a[?(@.type=="Ready")].status`."""
    value = obj
    for step in re.findall(r"\.((?:\w+)(?:\[[^\]]*\])?)", path):
        if match := _FILTER.match(step):
            key, field, wanted = match.groups()
            value = next((i for i in (value or {}).get(key) or [] if i.get(field) == wanted), None)
        else:
            value = value.get(step) if isinstance(value, dict) else None
        if value is None:
            return None
    return value
