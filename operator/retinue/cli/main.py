"""The `retinue` command, also `kubectl retinue`: people's commands, and the roles that the chart starts."""

import sys
from pathlib import Path

import typer

from retinue.cli import chat, get, revision, roles, status, templates, version
from retinue.cli.db import app as db_app
from retinue.cli.exits import CommandError
from retinue.cli.screen import console

app = typer.Typer(
    help="Run AI assistants on Kubernetes: environments, immutable revisions, graded health.\n\n"
    "Icons: ✔ ready  ◌ working  ✖ stalled  ॥ suspended  ⇣ pulling a model.\n\n"
    "Exit codes: 0 done, 1 condition is false, 2 usage, 3 refused, 4 not found, 5 conflict, 124 timed out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
status.register(app)
get.register(app)
chat.register(app)
version.register(app)
app.add_typer(revision.app, name="revision")
app.add_typer(templates.app, name="templates")
app.add_typer(db_app, name="db")
roles.register(app)


def main() -> None:
    """Entry point: as a kubectl plug-in the usage lines say so; expected errors are one line and an exit code."""
    called = Path(sys.argv[0]).name
    name = "kubectl retinue" if called.startswith("kubectl-") else "retinue"
    try:
        app(prog_name=name)
    except CommandError as error:
        from rich.markup import escape

        # Causes come from servers and quote names like [host/]model, which must neither vanish nor break the line.
        console(stderr=True).print(f"[red]error:[/red] {escape(str(error))}")
        raise SystemExit(error.code) from None


if __name__ == "__main__":
    main()
