"""What one operator process is told from outside, by environment variables named RETINUE_OPERATOR_*."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class OperatorSettings(BaseSettings):
    """Settings of one operator. Secrets are paths to mounted files, never values."""

    model_config = SettingsConfigDict(env_prefix="RETINUE_OPERATOR_", frozen=True, populate_by_name=True)

    platform_file: Path = Field(default=Path("/etc/retinue/platform.yaml"), validation_alias="RETINUE_PLATFORM_FILE")
    """What the platform team decided: profiles, registries, external servers. Read at start."""
    kubeconfig: str | None = None
    """Absent: the pod's own service account, else the usual kubeconfig."""
    context: str | None = None
    """Context of the kubeconfig. Absent: its current one."""
    listen: str = "0.0.0.0:8081"
    """Address and port of /healthz, /readyz and /metrics; port 0 for any free one."""
    namespace: str | None = None
    """Namespace of the Lease. Absent: the platform file's releaseNamespace."""
    lease: bool = True
    """False: no Lease is taken. Only for a single process that nobody else stands by for."""
    lease_name: str = "retinue-operator"
    pod_name: str = Field(default="", validation_alias="POD_NAME")
    """Name of this pod; in the Lease and in Events. Absent: the host's name."""
    credential_file: Path | None = None
    """Credential that the agents of model pods accept; read again when the file changes. Absent: agents refuse."""
    registries_dir: Path = Path("/etc/retinue/registries")
    """One folder per credentials Secret of the model registries."""
    postgres_dsn_file: Path | None = None
    """Postgres DSN for health rows. Absent: no rows are kept."""
    spool_dir: Path | None = None
    """Where health rows wait while Postgres is away. Absent: only in memory."""
    workers: int = Field(default=8, ge=1, le=64)
    """Objects that are reconciled at once."""
    crd_seconds: float = Field(default=60, gt=0)
    """How long to wait for the CRDs at start."""
    log_level: str = "info"

    @field_validator("listen")
    @classmethod
    def _has_a_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"RETINUE_OPERATOR_LISTEN: {value!r} is not <address>:<port>, for example 0.0.0.0:8081")
        return value

    @property
    def host(self) -> str:
        """Address part of `listen`."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Port part of `listen`."""
        return int(self.listen.rpartition(":")[2])
