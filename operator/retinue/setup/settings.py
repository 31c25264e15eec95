"""What the setup Job is told by the chart."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class SetupSettings(BaseSettings):
    """Environment variables RETINUE_SETUP_*."""

    model_config = SettingsConfigDict(env_prefix="RETINUE_SETUP_", frozen=True)

    release: str = "retinue"
    """Prefix of the names of Secrets and Services."""
    namespace: str
    """Namespace of the release."""
    models_namespace: str
    """Namespace of the model pods."""
    preset_namespaces: list[str] = Field(default_factory=list)
    """Where the presets are installed, as JSON."""
    postgres_dsn_file: Path | None = None
    """File with the connection string of an external database."""
    embedded_postgres_host: str | None = None
    """Host of the chart's own database; then its Secret is made here."""
    postgres_wait_seconds: float = 600
    """Seconds to wait for the database before the Job's pod fails and is tried again."""
    kubeconfig: str | None = None
    """Path of a kubeconfig; absent: the pod's service account."""
    log_level: str = "INFO"
