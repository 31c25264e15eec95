"""`retinue templates`: the presets that come with retinue, as AssistantTemplates in a namespace."""

from typing import Annotated

import typer

from retinue.cli.cluster import Access, ContextOption, KubeconfigOption, NamespaceOption, run
from retinue.cli.screen import aligned, console, icon

app = typer.Typer(help="Presets: AssistantTemplates that come with retinue.", no_args_is_help=True)


@app.command("list")
def list_presets() -> None:
    """List the presets that `templates install` offers.

    Example: retinue templates list
    """
    from retinue.domain.presets import all_presets

    rows = [[p["metadata"]["name"], p["spec"]["category"], p["spec"]["description"]] for p in all_presets()]
    for line in aligned([["NAME", "CATEGORY", "DESCRIPTION"], *rows]):
        print(line)


@app.command()
def install(
    names: Annotated[
        list[str] | None, typer.Argument(help="Presets to install; default: all.", show_default=False)
    ] = None,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Install presets into a namespace. One that exists is left as it is: it may have been edited.

    Examples: retinue templates install -n bots; retinue templates install code-assistant -n bots
    """
    from retinue.cli.exits import USAGE, CommandError
    from retinue.domain.presets import all_presets
    from retinue.kube.client import KubeClient
    from retinue.kube.errors import AlreadyExists
    from retinue.kube.resources import ASSISTANT_TEMPLATE

    known = {p["metadata"]["name"]: p for p in all_presets()}
    if unknown := sorted(set(names or []) - set(known)):
        raise CommandError(f"no preset {', '.join(unknown)}; there are: {', '.join(known)}", USAGE)
    access = Access(kubeconfig, context, namespace)
    target = access.default_namespace()

    async def create(client: KubeClient) -> list[tuple[str, bool]]:
        done = []
        for name in names or list(known):
            body = {**known[name], "metadata": {**known[name]["metadata"], "namespace": target}}
            try:
                await client.create(ASSISTANT_TEMPLATE, body, target)
                done.append((name, True))
            except AlreadyExists:
                done.append((name, False))
        return done

    screen = console()
    for name, created in run(access, create):
        screen.print(f"{icon('ok')} {target}/{name} {'installed' if created else 'is there already, left as it is'}")
