"""The port on which a role says how it is: /healthz, /readyz, /metrics."""

from collections.abc import Awaitable, Callable

from aiohttp import web

Answer = tuple[bool, str]
"""Is it well, and in words."""
Check = Callable[[], Answer]
"""Must be quick and must not raise."""
Render = Callable[[], tuple[bytes, str]]
"""The metrics and their content type."""

STOP_SECONDS = 2.0


def application(healthy: Check, ready: Check, metrics: Render) -> web.Application:
    """The three routes; everything else is 404.

    `healthy` false makes Kubernetes restart the process: it must never depend on the API server or Postgres being up.
    """
    app = web.Application()
    app.router.add_get("/healthz", _answer(healthy))
    app.router.add_get("/readyz", _answer(ready))

    async def render(_: web.Request) -> web.Response:
        body, content_type = metrics()
        return web.Response(body=body, headers={"Content-Type": content_type})

    app.router.add_get("/metrics", render)
    return app


class HealthServer:
    """Serves an application in the running loop, so that a loop that hangs answers nothing."""

    def __init__(self, app: web.Application, *, port: int, host: str | None = None) -> None:
        """`host` None: all addresses; port 0: any free one."""
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=STOP_SECONDS)
        self._host = host
        self._port = port

    @property
    def port(self) -> int:
        """The port that is really listened on."""
        address = self._runner.addresses[0]
        return int(address[1])

    async def start(self) -> None:
        """Listens. Raises OSError: the port is taken."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def stop(self) -> None:
        """Closes the port. Idempotent."""
        await self._runner.cleanup()


def _answer(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def respond(_: web.Request) -> web.Response:
        well, words = check()
        return web.Response(status=200 if well else 503, text=words + "\n")

    return respond
