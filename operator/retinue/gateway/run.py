"""`retinue gateway`: wires the parts, listens, and drains on SIGTERM."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Final

import structlog
import uvicorn
import uvloop
import yaml
from pydantic import ValidationError

from retinue.gateway.access_log import AccessLog
from retinue.gateway.account import Ledger
from retinue.gateway.app import Gateway
from retinue.gateway.balance import Balancer
from retinue.gateway.chat import ChatCompletions, Limits
from retinue.gateway.feed import RouteFeed
from retinue.gateway.health import Health
from retinue.gateway.metrics import GatewayMetrics
from retinue.gateway.protocol import BoundedProtocol
from retinue.gateway.secrets import SecretFile, TokenCheck
from retinue.gateway.settings import GatewaySettings
from retinue.gateway.snapshot import SnapshotFile
from retinue.gateway.upstream import Upstream
from retinue.gateway.usage import usage_writer
from retinue.gateway.watching import watch_objects
from retinue.kube.cache import Cache
from retinue.observability.lag import measure_lag
from retinue.observability.logging import configure
from retinue.resources.platform import PlatformConfig

KEEP_ALIVE_SECONDS: Final = 75
"""How long an idle connection of a client is kept."""
BACKLOG: Final = 2048

_log = structlog.get_logger("retinue.gateway")


class StartError(Exception):
    """The gateway cannot start; the message names the setting, the cause and what to do."""


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the order of draining is ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main(settings: GatewaySettings | None = None) -> None:
    """Run the gateway until SIGTERM or SIGINT. Raises SystemExit with code 1 if it cannot start."""
    settings = settings or GatewaySettings()
    configure("gateway", settings.log_level)
    stop = asyncio.Event()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(settings, stop)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())
    except StartError as error:
        _log.error("not_started", error=str(error))
        raise SystemExit(1) from None


def read_platform(path: Path) -> PlatformConfig:
    """The platform file. Raises StartError."""
    try:
        return PlatformConfig.model_validate(yaml.safe_load(path.read_bytes()))
    except OSError as error:
        raise StartError(f"RETINUE_PLATFORM_FILE {path}: {error.strerror}; mount the chart's ConfigMap there") from None
    except (yaml.YAMLError, ValidationError) as error:
        raise StartError(f"RETINUE_PLATFORM_FILE {path} is not a platform file: {error}") from None


async def serve(
    settings: GatewaySettings, stop: asyncio.Event, *, listening: "asyncio.Future[int] | None" = None
) -> None:
    """Serve until `stop` is set and running answers have finished, or their time is over.

    `listening` gets the port that was taken, for callers who asked for any. Raises StartError.
    """
    platform = read_platform(settings.platform_file)
    tokens = TokenCheck(_secret("RETINUE_GATEWAY_TOKEN_FILE", settings.token_file))
    credential = None
    if settings.credential_file is not None:
        credential = _secret("RETINUE_GATEWAY_CREDENTIAL_FILE", settings.credential_file)
    sock = _listen(settings)
    metrics, health, cache = GatewayMetrics(), Health(), Cache()
    snapshot = SnapshotFile(settings.snapshot_path) if settings.snapshot_path is not None else None
    feed = RouteFeed(cache, platform, metrics, snapshot)
    health.add("routes", feed.check, needed=True)
    async with (
        usage_writer(settings, metrics, health) as writer,
        Upstream(Balancer(), credential, connect_seconds=settings.connect_seconds) as upstream,
        _background("routes", feed.run(), health),
        _background("lag", measure_lag(metrics.loop_lag), health),
        _background("watches", watch_objects(cache, platform, settings.kubeconfig, health), health),
    ):
        ledger = Ledger(metrics, writer, AccessLog(sys.stderr))
        chat = ChatCompletions(feed.table, upstream, ledger, _limits(settings))
        app = Gateway(
            routes=feed.table,
            tokens=tokens,
            chat=chat,
            health=health,
            ledger=ledger,
            max_requests=settings.max_requests,
        )
        server = _Server(_server_config(app, settings))
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        port = sock.getsockname()[1]
        _log.info("listening", port=port)
        if listening is not None:
            listening.set_result(port)
        try:
            await _first(stop, serving)
            # Endpoints reach load balancers after the pod gets its signal: until then requests still come.
            health.draining = True
            _log.info("draining", delay=settings.drain_delay_seconds, seconds=settings.drain_seconds)
            await asyncio.sleep(settings.drain_delay_seconds)
        finally:
            server.should_exit = True
            await serving
            _log.info("drained")


@contextlib.asynccontextmanager
async def _background(name: str, work: Coroutine[object, object, None], health: Health) -> AsyncIterator[None]:
    """Run beside the server. It never ends by itself; if it does, the gateway is not alive and gets started anew."""
    task = asyncio.create_task(work, name=name)
    health.keep_alive(lambda: not task.done())
    try:
        yield
    finally:
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(ended, Exception):
            _log.error("task_failed", task=name, kind=type(ended).__name__)


def _server_config(app: Gateway, settings: GatewaySettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="none",
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        backlog=BACKLOG,
    )


def _limits(settings: GatewaySettings) -> Limits:
    return Limits(
        body_bytes=settings.body_limit,
        body_seconds=settings.body_seconds,
        first_byte_seconds=settings.first_byte_seconds,
        total_seconds=settings.total_seconds,
    )


def _secret(name: str, path: Path) -> SecretFile:
    try:
        return SecretFile(path)
    except OSError as error:
        raise StartError(f"{name} {path}: {error.strerror}; mount the Secret there") from None


def _listen(settings: GatewaySettings) -> socket.socket:
    host, port = settings.host, settings.port
    if not host and socket.has_dualstack_ipv6():
        # The kernel may know IPv6 and still have it switched off.
        with contextlib.suppress(OSError):
            return socket.create_server(("::", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise StartError(f"RETINUE_GATEWAY_LISTEN {settings.listen}: {error.strerror}") from None


async def _first(stop: asyncio.Event, serving: "asyncio.Task[None]") -> None:
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if serving.done():
        serving.result()
