"""What an agent is told: one JSON document in the environment, written by the operator into the pod."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic_settings import BaseSettings, SettingsConfigDict


class AgentConfig(BaseModel):
    """The document in `RETINUE_AGENT_CONFIG`. Unknown fields are ignored, so an older agent reads a newer operator."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    model: Annotated[str, StringConstraints(min_length=1)]
    """Name under which requests ask for the model."""
    digest: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
    """The only manifest digest that may be served."""
    pull_name: Annotated[str, StringConstraints(min_length=1)]
    """Name to pull: with the registry's host, or of the mirror."""
    insecure: bool = False
    """True: the registry speaks plain HTTP."""
    constants: dict[str, Any] = Field(default_factory=dict)
    """The fields that every request carries (`retinue.domain.inference`)."""
    slots: int = Field(default=1, ge=1, le=64)
    """Requests that go to Ollama at once."""
    queue: int = Field(default=8, ge=0, le=1024)
    """Requests that wait for a slot before others get 503."""
    credential_file: str
    """File with one SHA-256 in hex per line; the token of a request must hash to one of them."""
    pull_seconds: float = Field(default=3600, gt=0)
    """Longest single pull; it is then stopped and goes on where it was."""
    load_seconds: float = Field(default=600, gt=0)
    """Longest load of the model into memory."""
    ollama: str = "http://127.0.0.1:11434"
    """Where Ollama listens: loopback of the same pod."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port of the agent; 0 takes a free one."""
    host: str = ""
    """Address to listen on; empty: all, IPv4 and IPv6."""
    body_bytes: int = Field(default=16 * 1024 * 1024, ge=1)
    """Longest request body."""
    body_budget_bytes: int = Field(default=64 * 1024 * 1024, ge=1)
    """All request bodies in memory together; beyond it requests get 503."""
    body_seconds: float = Field(default=30, gt=0)
    """Longest time that a client may take to send its body."""
    write_seconds: float = Field(default=60, gt=0)
    """Longest time that a client may refuse to read before it counts as gone."""
    stall_seconds: float = Field(default=60, gt=0)
    """Longest time without a byte before a pull is stopped and tried again."""
    hung_seconds: float = Field(default=600, gt=0)
    """Longest silence of Ollama on a request before it is given up and Ollama is checked."""
    poll_seconds: float = Field(default=5, gt=0)
    """Seconds between two looks at Ollama while it serves; a request that loses Ollama makes it look at once."""
    retry_seconds: float = Field(default=1, gt=0)
    """First wait after a failure; it doubles up to `retry_max_seconds`."""
    retry_max_seconds: float = Field(default=60, gt=0)
    """Longest wait after a failure."""
    drain_grace_seconds: float = Field(default=5, ge=0)
    """After SIGTERM: seconds in which new requests are still taken, until no gateway sends any."""
    drain_seconds: float = Field(default=300, ge=0)
    """After that: longest wait for running requests."""


class AgentSettings(BaseSettings):
    """Environment of `retinue agent`."""

    model_config = SettingsConfigDict(env_prefix="RETINUE_AGENT_", frozen=True)

    config: AgentConfig
    """RETINUE_AGENT_CONFIG: the whole document as JSON."""
    log_level: str = "info"
    """RETINUE_AGENT_LOG_LEVEL: debug, info, warning or error."""
