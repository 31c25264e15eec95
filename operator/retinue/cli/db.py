"""`retinue db`: the schema of the history database and how long rows are kept."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from retinue.cli.db_newest import DeploymentArgument, place_of, read, show
from retinue.cli.exits import FALSE, USAGE, CommandError
from retinue.cli.screen import console, icon

if TYPE_CHECKING:
    from retinue.store.pool import Database

T = TypeVar("T")

app = typer.Typer(help="The history database: schema versions and retention.", no_args_is_help=True)
migrate_app = typer.Typer(help="Move the database to another schema version.", no_args_is_help=True)
app.add_typer(migrate_app, name="migrate")

DsnFileOption = Annotated[
    Path,
    typer.Option(
        "--dsn-file",
        help="File with the connection string, postgresql://user:password@host:5432/database.",
        envvar=[
            "RETINUE_POSTGRES_DSN_FILE",
            "RETINUE_OPERATOR_POSTGRES_DSN_FILE",
            "RETINUE_GATEWAY_POSTGRES_DSN_FILE",
            "RETINUE_SETUP_POSTGRES_DSN_FILE",
        ],
        show_envvar=False,
    ),
]
SecondsOption = Annotated[float, typer.Option("--timeout", help="Seconds that one statement may take.", min=1)]


def _run(dsn_file: Path, seconds: float, work: "Callable[[Database], Awaitable[T]]") -> T:
    """Connect, do the work, close; errors of the store become one line."""
    import asyncio

    from retinue.store.dsn import DsnFile
    from retinue.store.errors import StoreError
    from retinue.store.pool import Database, Limits

    async def main() -> T:
        database = Database(DsnFile(dsn_file), application="retinue-cli", max_size=1, limits=Limits.long(seconds))
        try:
            return await work(database)
        finally:
            await database.close()

    try:
        return asyncio.run(main())
    except StoreError as error:
        raise CommandError(str(error), FALSE) from None
    except ValueError as error:
        raise CommandError(str(error), USAGE) from None


@migrate_app.command()
def status(dsn_file: DsnFileOption, timeout: SecondsOption = 10) -> None:
    """Show the schema version of the database; exit code 1 if this release needs a newer one.

    Example: retinue db migrate status --dsn-file dsn
    """
    from retinue.store.schema import SCHEMA_VERSION, current_version

    version = _run(dsn_file, timeout, current_version)
    fits = version is not None and version >= SCHEMA_VERSION
    console().print(
        f"{icon('ok' if fits else 'bad')} schema {'none' if version is None else version}, "
        f"this release needs {SCHEMA_VERSION}{'' if fits else ': run retinue db migrate up'}"
    )
    if not fits:
        raise typer.Exit(FALSE)


@migrate_app.command()
def up(dsn_file: DsnFileOption, timeout: SecondsOption = 300) -> None:
    """Bring the database to the schema of this release; a newer one is left as it is. May be repeated.

    Example: retinue db migrate up --dsn-file dsn
    """
    from retinue.store.migrate import migrate

    before, after = _run(dsn_file, timeout, migrate)
    text = f"schema {after}, nothing to do" if before == after else f"schema {before} -> {after}"
    console().print(f"{icon('ok')} {text}")


@migrate_app.command()
def down(
    to: Annotated[int, typer.Option("--to", help="Schema version to go back to; 0 drops everything.", min=0)],
    dsn_file: DsnFileOption,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    timeout: SecondsOption = 300,
) -> None:
    """Go back to an older schema. What only the newer one holds is lost.

    Example: retinue db migrate down --to 0 --dsn-file dsn
    """
    from retinue.store.migrate import migrate
    from retinue.store.schema import current_version

    version = _run(dsn_file, 10, current_version) or 0
    if to > version:
        raise CommandError(f"--to: the database has schema {version}; use `retinue db migrate up`", USAGE)
    if not yes and to < version:
        typer.confirm(f"Drop what came after schema {to}? The rows in it are lost.", abort=True)
    before, after = _run(dsn_file, timeout, lambda database: migrate(database, to, down=True))
    console().print(f"{icon('ok')} schema {before} -> {after}")


@migrate_app.command()
def sql(
    start: Annotated[int, typer.Option("--from", help="Schema version to begin at; 0 is an empty database.")] = 0,
    to: Annotated[int | None, typer.Option("--to", help="Schema version to end at; default: this release's.")] = None,
) -> None:
    """Print the SQL that `up` or `down` would run, for people who run it themselves. Needs no database.

    Example: retinue db migrate sql > retinue.sql
    """
    from retinue.store.migrate import render
    from retinue.store.schema import SCHEMA_VERSION

    try:
        text = render(start, SCHEMA_VERSION if to is None else to)
    except ValueError as error:
        raise CommandError(str(error), USAGE) from None
    typer.echo(f"BEGIN;\n{text}COMMIT;")


@app.command()
def retention(
    dsn_file: DsnFileOption,
    days: Annotated[int, typer.Option("--days", help="Days that rows are kept.", min=1)] = 14,
    timeout: SecondsOption = 60,
) -> None:
    """Make the partitions of the coming days and drop those older than --days. The operator does this by itself.

    Example: retinue db retention --days 14 --dsn-file dsn
    """
    from datetime import UTC, datetime

    from retinue.store.partitions import keep_partitions

    now = datetime.now(UTC)
    done = _run(dsn_file, timeout, lambda database: keep_partitions(database, now=now, retention_days=days))
    screen = console()
    screen.print(f"{icon('ok')} {len(done.created)} days made, {len(done.dropped)} dropped")
    if done.postponed:
        screen.print(f"{icon('working')} in use, try again later: {', '.join(done.postponed)}")
    if done.default_rows:
        screen.print(
            f"{icon('bad')} {done.default_rows} rows lie outside all days: check the clocks of operator and gateways"
        )
        raise typer.Exit(FALSE)


@app.command()
def newest(
    dsn_file: DsnFileOption,
    deployment: DeploymentArgument = None,
    limit: Annotated[int, typer.Option("--limit", help="Rows per table.", min=1, max=1000)] = 5,
    timeout: SecondsOption = 10,
) -> None:
    """Read health and usage rows back: the newest of each deployment and pod, and the last requests.

    Examples: retinue db newest --dsn-file dsn;
    kubectl -n retinue-system exec deploy/retinue-operator -- retinue db newest bots/helper
    """
    namespace, name = place_of(deployment)
    show(_run(dsn_file, timeout, lambda database: read(database, namespace, name, limit)))
