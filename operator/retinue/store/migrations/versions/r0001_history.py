"""Health of pods and deployments, usage of the gateway."""

from retinue.store.migrations.steps import execute

revision = "0001"
down_revision = None


def upgrade() -> None:
    """From an empty database to version 0001."""
    execute("0001_history.up")


def downgrade() -> None:
    """Drops all history."""
    execute("0001_history.down")
