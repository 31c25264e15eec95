"""How a version finds its SQL."""

from importlib.resources import files

from alembic import op


def execute(name: str) -> None:
    """Put the file `sql/<name>.sql` of this package into the migration."""
    text = files("retinue.store.migrations").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    op.execute(text.rstrip().removesuffix(";"))
