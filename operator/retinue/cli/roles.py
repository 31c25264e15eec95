"""The server roles: started by the chart, configured by environment variables and files, not by flags."""

import typer


def register(app: typer.Typer) -> None:
    """Add the roles to the command line."""

    @app.command(rich_help_panel="Roles (started by the chart)")
    def operator() -> None:
        """Watch, reconcile, roll out, record. One is active (Lease), others stand by."""
        from retinue.operator_app.run import main

        main()

    @app.command(rich_help_panel="Roles (started by the chart)")
    def gateway() -> None:
        """Carry the traffic: OpenAI-compatible requests to the Ready pods of each assistant."""
        from retinue.gateway.run import main

        main()

    @app.command(rich_help_panel="Roles (started by the chart)")
    def agent() -> None:
        """Guard one model pod: pull, check and preload the model, let only allowed requests through."""
        from retinue.agent.run import main

        main()

    @app.command(rich_help_panel="Roles (started by the chart)")
    def setup() -> None:
        """Prepare a release: credentials, database schema and presets, each only if absent."""
        from retinue.setup.run import main

        main()
