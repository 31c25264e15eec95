"""`retinue version`: what this program is and what the cluster runs."""

from typing import Annotated

import typer

from retinue import __version__
from retinue.cli.cluster import Access, ContextOption, KubeconfigOption, run
from retinue.cli.exits import CommandError
from retinue.cli.screen import console


def register(app: typer.Typer) -> None:
    """Add `version` to the command line."""

    @app.command()
    def version(
        client_only: Annotated[bool, typer.Option("--client", help="Do not ask the cluster.")] = False,
        kubeconfig: KubeconfigOption = None,
        context: ContextOption = None,
    ) -> None:
        """Print the version of this program, of the API server and of the installed CRDs.

        Examples: retinue version; retinue version --client
        """
        screen = console()
        screen.print(f"retinue     {__version__}")
        if client_only:
            return
        from retinue.kube.client import KubeClient
        from retinue.kube.errors import NotFound
        from retinue.kube.resources import CUSTOM_RESOURCE_DEFINITION
        from retinue.resources.meta import ANNOTATION_SCHEMA, SCHEMA_REVISION

        async def ask(client: KubeClient) -> tuple[str, str]:
            server = await client.request("GET", "/version")
            try:
                crd = await client.get(CUSTOM_RESOURCE_DEFINITION, "assistants.retinue.dev")
                schema = crd["metadata"].get("annotations", {}).get(ANNOTATION_SCHEMA, "unknown")
            except NotFound:
                schema = "not installed"
            return server["gitVersion"], schema

        try:
            server, schema = run(Access(kubeconfig, context, None), ask)
        except CommandError as error:
            screen.print(f"cluster     unknown ({error})", markup=False)
            raise typer.Exit(error.code) from None
        screen.print(f"kubernetes  {server}")
        screen.print(f"crds        {schema} (this program knows {SCHEMA_REVISION})")
