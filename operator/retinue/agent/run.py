"""`retinue agent`: wires the parts, listens, and drains on SIGTERM."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Final

import structlog
import uvicorn
import uvloop
from pydantic import ValidationError
from pydantic_settings import SettingsError

from retinue.agent.admission import Admission, ByteBudget
from retinue.agent.app import AgentApp
from retinue.agent.credentials import CredentialFile
from retinue.agent.keeper import Keeper
from retinue.agent.metrics import AgentMetrics
from retinue.agent.settings import AgentConfig, AgentSettings
from retinue.agent.state import ServerState
from retinue.agent.upstream import Upstream
from retinue.observability.logging import configure
from retinue.ollama.client import OllamaClient, new_session

KEEP_ALIVE_SECONDS: Final = 75
"""How long an idle connection of a gateway is kept."""
CUT_SECONDS: Final = 1
"""What requests that outlast the drain still get before they are cut."""
BACKLOG: Final = 1024

_log = structlog.get_logger("retinue.agent")


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the order of draining is ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main(settings: AgentSettings | None = None) -> int:
    """Run the agent until SIGTERM or SIGINT; returns the exit code."""
    settings = settings or _from_environment()
    configure("agent", settings.log_level)
    stop = asyncio.Event()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(settings.config, stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    return 0


def _from_environment() -> AgentSettings:
    """Settings of the process; a line per wrong field and exit code 2 instead of a traceback."""
    try:
        return AgentSettings()
    except ValidationError as error:
        for found in error.errors(include_url=False, include_input=False):
            field = ".".join(str(part) for part in found["loc"])
            print(f"RETINUE_AGENT_{field.upper().partition('.')[0]}: {field}: {found['msg']}", file=sys.stderr)  # noqa: T201
    except SettingsError:
        print("RETINUE_AGENT_CONFIG: not a JSON document", file=sys.stderr)  # noqa: T201
    raise SystemExit(2)


async def serve(config: AgentConfig, stop: asyncio.Event, *, listening: "asyncio.Future[int] | None" = None) -> None:
    """Serve until `stop` is set and the requests that ran then have ended.

    `listening` gets the port that was taken, for callers who asked for any. Raises OSError if the port is in use.
    """
    sock = listen(config.host, config.port)
    state = ServerState(model=config.model, wanted_digest=config.digest)
    admission = Admission(config.slots, config.queue)
    async with new_session() as session:
        keeper = Keeper(config, OllamaClient(session, config.ollama, headers={"Host": "localhost"}), state)
        keeping = asyncio.create_task(keeper.run())
        app = AgentApp(
            config=config,
            state=state,
            admission=admission,
            budget=ByteBudget(max(config.body_budget_bytes, config.body_bytes)),
            credentials=CredentialFile(config.credential_file),
            upstream=Upstream(
                session,
                config.ollama,
                hung_seconds=config.hung_seconds,
                write_seconds=config.write_seconds,
                on_lost=keeper.look_now,
                on_hung=keeper.suspect,
            ),
            metrics=AgentMetrics(state, admission),
            alive=lambda: not keeping.done(),
        )
        server = _Server(
            uvicorn.Config(
                app,
                loop="none",
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=CUT_SECONDS,
                backlog=BACKLOG,
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        port = sock.getsockname()[1]
        _log.info("listening", port=port, model=config.model, slots=config.slots, queue=config.queue)
        if listening is not None:
            listening.set_result(port)
        try:
            await _first(stop, serving)
            await drain(state, admission, grace=config.drain_grace_seconds, seconds=config.drain_seconds)
        finally:
            keeping.cancel()
            server.should_exit = True
            await asyncio.gather(keeping, serving, return_exceptions=True)
            sock.close()


async def drain(state: ServerState, admission: Admission, *, grace: float, seconds: float) -> None:
    """Stop being ready, still take what gateways send until they know, then wait for what runs.

    The grace exists because endpoints reach gateways after the pod gets its signal: refusing at once would fail
    requests that another pod could have had.
    """
    # A pod that does not serve is in nobody's list, so there is nothing to wait for.
    grace = grace if state.ready else 0
    state.draining = True
    _log.info("draining", in_flight=admission.in_flight, queued=admission.queued)
    await asyncio.sleep(grace)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(admission.empty(), seconds)
    _log.info("drained", cut=admission.in_flight + admission.queued)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; an empty host means IPv6 and IPv4, or IPv4 where the kernel has no IPv6."""
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return socket.create_server(("::", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
    return socket.create_server(("0.0.0.0", port), backlog=BACKLOG)  # noqa: S104 (it is the pod's one listener)


async def _first(stop: asyncio.Event, serving: "asyncio.Task[None]") -> None:
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if serving.done():
        serving.result()
