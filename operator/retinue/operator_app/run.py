"""`retinue operator`: starts the parts in order, leads while it holds the Lease, and stops in reverse order.

Start: HTTP server, elector (its work: relist, workers, prober), watches last. So no event is handled before this
process may write, and the probes answer from the first moment on.
"""

import asyncio
import contextlib
import signal
import socket
import uuid
from collections.abc import Callable

import structlog
import uvloop

from retinue.kube.aio import AioKubeClient, NoCluster, connect
from retinue.kube.crds import CrdsNotReady, wait_for_crds
from retinue.kube.lease import Elector
from retinue.observability.http import HealthServer, application
from retinue.observability.lag import measure_lag
from retinue.observability.logging import configure
from retinue.observability.metrics import LEADER, ApiCalls, Metrics
from retinue.ollama.client import new_session
from retinue.operator_app.history import keep_history, row_writer
from retinue.operator_app.operation import Operation, Work, first_of
from retinue.operator_app.parts import build
from retinue.operator_app.settings import OperatorSettings
from retinue.operator_app.start_error import StartError, read_platform
from retinue.operator_app.wellbeing import Wellbeing
from retinue.outbound.model_registry import ModelRegistries
from retinue.resources.platform import PlatformConfig

log = structlog.get_logger(__name__)


def main(settings: OperatorSettings | None = None) -> None:
    """Run the operator until SIGTERM or SIGINT. Raises SystemExit with code 1 if it cannot start or go on."""
    settings = settings or OperatorSettings()
    configure("operator", settings.log_level)
    stop = asyncio.Event()

    async def until_signal() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await run(settings, stop)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(until_signal())
    except StartError as error:
        log.error("the operator cannot start", cause=str(error))
        raise SystemExit(1) from None


async def run(
    settings: OperatorSettings,
    stop: asyncio.Event,
    *,
    listening: "asyncio.Future[int] | None" = None,
) -> None:
    """Run until `stop` is set; everything has ended when it returns. Raises StartError.

    `listening` gets the port of the probes, for callers who asked for any.
    """
    platform = read_platform(settings.platform_file)
    metrics = Metrics("operator")
    well = Wellbeing(relist_seconds=platform.relist_seconds)
    instance = settings.pod_name or socket.gethostname()
    async with contextlib.AsyncExitStack() as stack:
        await _serve_probes(stack, settings, well, metrics, listening)
        client = await _client(stack, settings, metrics, well)
        if not await _crds(client, settings, stop):
            return
        session = await stack.enter_async_context(new_session())
        registries = ModelRegistries(platform.model_registries, credentials_folder=settings.registries_dir)
        stack.push_async_callback(registries.close)
        rows = await stack.enter_async_context(
            row_writer(settings.postgres_dsn_file, settings.spool_dir, instance, metrics.registry)
        )
        leader = metrics.gauge(LEADER)

        def on_change(leading: bool) -> None:
            leader.set(leading)
            well.lead(leading)

        elector = _elector(client, platform, settings, instance, on_change)
        parts = build(
            client,
            platform,
            settings,
            session=session,
            registries=registries,
            rows=rows,
            metrics=metrics,
            instance=instance,
            may_write=lambda: elector is None or elector.leading,
        )
        well.relist = parts.relist
        operation = Operation(
            parts=parts,
            elector=elector,
            on_change=on_change,
            background=(lambda: measure_lag(metrics.loop_lag),),
            leading=_upkeep(settings, platform),
        )
        well.started = True
        await operation.run(stop)


async def _serve_probes(
    stack: contextlib.AsyncExitStack,
    settings: OperatorSettings,
    well: Wellbeing,
    metrics: Metrics,
    listening: "asyncio.Future[int] | None",
) -> None:
    server = HealthServer(application(well.healthy, well.ready, metrics.render), host=settings.host, port=settings.port)
    try:
        await server.start()
    except OSError as error:
        raise StartError(f"RETINUE_OPERATOR_LISTEN {settings.listen}: {error.strerror}") from None
    stack.push_async_callback(server.stop)
    if listening is not None and not listening.done():
        listening.set_result(server.port)


async def _client(
    stack: contextlib.AsyncExitStack, settings: OperatorSettings, metrics: Metrics, well: Wellbeing
) -> AioKubeClient:
    calls = ApiCalls(metrics)

    def observe(verb: str, resource: str, status: int, seconds: float) -> None:
        calls(verb, resource, status, seconds)
        well.answered(status)

    try:
        client = await connect(settings.kubeconfig, settings.context, observer=observe)
    except NoCluster as error:
        raise StartError(str(error)) from None
    stack.push_async_callback(client.close)
    return client


def _upkeep(settings: OperatorSettings, platform: PlatformConfig) -> tuple[Work, ...]:
    """What only the leader does beside reconciling."""
    dsn_file = settings.postgres_dsn_file
    return () if dsn_file is None else (lambda: keep_history(dsn_file, platform.health.retention_days),)


async def _crds(client: AioKubeClient, settings: OperatorSettings, stop: asyncio.Event) -> bool:
    """Waits for the CRDs; False: told to stop meanwhile. Raises StartError."""
    waiting = asyncio.create_task(wait_for_crds(client, seconds=settings.crd_seconds))
    try:
        await first_of([waiting], stop)
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    if waiting.cancelled():
        return False
    error = waiting.exception()
    if isinstance(error, CrdsNotReady):
        raise StartError(str(error))
    if error is not None:
        raise error
    return True


def _elector(
    client: AioKubeClient,
    platform: PlatformConfig,
    settings: OperatorSettings,
    instance: str,
    on_change: Callable[[bool], None],
) -> Elector | None:
    if not settings.lease:
        return None
    return Elector(
        client,
        namespace=settings.namespace or platform.release_namespace,
        name=settings.lease_name,
        identity=f"{instance}_{uuid.uuid4()}",
        on_change=on_change,
    )
