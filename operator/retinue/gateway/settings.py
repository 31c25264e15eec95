"""What one gateway process is told from outside, by environment variables named RETINUE_GATEWAY_*."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class GatewaySettings(BaseSettings):
    """Settings of one gateway. Secrets are paths to mounted files, never values."""

    model_config = SettingsConfigDict(env_prefix="RETINUE_GATEWAY_", frozen=True, populate_by_name=True)

    listen: str = ":8080"
    """Address and port of the only listener. Without an address: all of them, IPv6 and IPv4; port 0: any free one."""
    platform_file: Path = Field(default=Path("/etc/retinue/platform.yaml"), validation_alias="RETINUE_PLATFORM_FILE")
    """What the platform team decided: profiles, external servers, namespaces."""
    kubeconfig: str | None = None
    """Absent: the pod's own service account, else the usual kubeconfig."""
    token_file: Path = Path("/etc/retinue/gateway/token")
    """Bearer tokens that clients may use, one per line; read again when the file changes."""
    credential_file: Path | None = None
    """Credential that model pods' agents accept; read again when the file changes. External servers never get it."""
    snapshot_path: Path | None = None
    """Where the last known objects are kept, so that a restart without an API server still serves. Absent: nowhere."""
    postgres_dsn_file: Path | None = None
    """Postgres DSN for usage rows. Absent: no rows are kept."""
    spool_dir: Path | None = None
    """Where usage rows wait while Postgres is away. Absent: only in memory."""

    connect_seconds: float = Field(default=2, gt=0)
    """To open a connection to a model pod, before another pod is tried."""
    first_byte_seconds: float = Field(default=120, gt=0)
    """Until a streamed answer has begun; waiting in the pod's queue included."""
    total_seconds: float = Field(default=600, gt=0)
    """For the whole answer."""
    body_seconds: float = Field(default=30, gt=0)
    """Until a client has sent its whole body."""
    body_limit: int = Field(default=1024 * 1024, ge=1024)
    """Bytes of a request body."""
    max_requests: int = Field(default=1024, ge=1)
    """Requests in work at once; more are refused with 503, so that memory stays bounded."""

    drain_delay_seconds: float = Field(default=5, ge=0)
    """After SIGTERM the gateway says that it is not ready, but goes on accepting for so long."""
    drain_seconds: float = Field(default=120, gt=0)
    """Then it stops accepting and lets running answers finish for so long."""
    log_level: str = "info"

    @field_validator("listen")
    @classmethod
    def _has_a_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if (":" in host and not host.startswith("[")) or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"RETINUE_GATEWAY_LISTEN: {value!r} is not [<address>]:<port>, for example :8080")
        return value

    @property
    def host(self) -> str:
        """Address part of `listen`, empty for all addresses."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Port part of `listen`."""
        return int(self.listen.rpartition(":")[2])
