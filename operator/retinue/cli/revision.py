"""`retinue revision`: the content address of an assistant, with and without a cluster."""

from pathlib import Path
from typing import Annotated, Any

import typer

from retinue.cli.exits import USAGE, CommandError

app = typer.Typer(help="Revisions: immutable snapshots, named by their content.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `build` a sub-command while it is the only one."""


@app.command()
def build(
    files: Annotated[
        list[Path],
        typer.Option(
            "--file",
            "-f",
            help="YAML with one Assistant and what it refers to: AssistantTemplates, ConfigMaps. Repeatable.",
        ),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="yaml, name or digest.")] = "yaml",
    git_commit: Annotated[
        str | None, typer.Option(help="Recorded as provenance; not hashed.", show_default=False)
    ] = None,
) -> None:
    """Build the AssistantRevision of an Assistant offline: the same name as in the cluster.

    Needs spec.model.digest: without a cluster no registry is asked.

    Examples: retinue revision build -f assistant.yaml -f template.yaml; retinue revision build -f bot.yaml -o name
    """
    import yaml

    from retinue.domain import revision
    from retinue.resources.v1alpha1.assistant import Assistant
    from retinue.resources.v1alpha1.assistantrevision import Provenance
    from retinue.resources.v1alpha1.assistanttemplate import AssistantTemplate

    if output not in ("yaml", "name", "digest"):
        raise CommandError(f"--output {output}: use yaml, name or digest", USAGE)
    documents = _documents(files)
    assistants = [d for d in documents if d.get("kind") == "Assistant"]
    if len(assistants) != 1:
        raise CommandError(f"-f: need exactly one Assistant, found {len(assistants)}", USAGE)
    assistant = Assistant.from_object(assistants[0])
    reference = assistant.spec.template_ref
    template = None
    if reference is not None:
        found = [
            d for d in documents if d.get("kind") == "AssistantTemplate" and d["metadata"]["name"] == reference.name
        ]
        if not found:
            raise CommandError(
                f"spec.templateRef.name: AssistantTemplate {reference.name} is in none of the files", USAGE
            )
        template = AssistantTemplate.from_object(found[0])
    maps = {d["metadata"]["name"]: d.get("data", {}) for d in documents if d.get("kind") == "ConfigMap"}
    model = revision.effective_model(assistant.spec, template)
    if model is None or not model.digest:
        raise CommandError(
            "spec.model.digest: needed offline, because no registry is asked (sha256:...). Where the Assistant exists: "
            f"kubectl get assistant {assistant.name} -o jsonpath={{.status.model.digest}}",
            USAGE,
        )
    built = revision.build_snapshot(assistant.spec, template, maps, model.digest)
    if isinstance(built, list):
        raise CommandError("; ".join(str(v) for v in built), USAGE)
    digest = revision.digest_of(built)
    if output == "name":
        print(revision.revision_name(assistant.name, digest))
    elif output == "digest":
        print(digest)
    else:
        body = revision.build_revision_object(
            assistant.name,
            assistant.namespace or None,
            built,
            Provenance(template=reference.name if reference else None, git_commit=git_commit),
            by_operator=False,
        )
        print(yaml.safe_dump(body, sort_keys=False, allow_unicode=True), end="")


def _documents(files: list[Path]) -> list[dict[str, Any]]:
    import yaml

    documents: list[dict[str, Any]] = []
    for file in files:
        try:
            documents += [d for d in yaml.safe_load_all(file.read_text()) if isinstance(d, dict)]
        except OSError as error:
            raise CommandError(f"-f {file}: {error.strerror}", USAGE) from None
        except yaml.YAMLError as error:
            raise CommandError(f"-f {file}: not YAML: {error}", USAGE) from None
    return documents
