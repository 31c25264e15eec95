"""A stage for the prober: a real cache and a real AgentClient before agents that say what a test wants.

The agents are a labelled stand-in, for faults that a real one cannot be asked for.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from aiohttp import ClientSession, web

from retinue.domain.records import DeploymentHealth, PodHealth, Row
from retinue.kube.cache import Cache
from retinue.ollama.agent_client import AgentClient, AgentStatus
from retinue.ollama.client import new_session
from retinue.ollama.replies import OneToken
from retinue.reconcile.health import HealthProber
from retinue.resources.platform import ExternalServer, HealthSettings, ModelRegistry, PlatformConfig, Profile

SERVER = "smollm2-0123456789"
CREDENTIAL = "canary-credential"


@dataclass
class StandInAgent:
    """One agent: answers /status with `said`, generations with one token, and counts both."""

    said: dict[str, Any] = field(default_factory=lambda: {"phase": "Ready", "digest": "sha256:9", "loaded": True})
    status_code: int = 200
    generate_code: int = 200
    hold: asyncio.Event | None = None
    """Set: no status is answered before it happens."""
    looks: int = 0
    generations: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    async def status(self, request: web.Request) -> web.Response:
        self.looks += 1
        if self.hold is not None:
            await self.hold.wait()
        allowed = request.headers.get("Authorization") == f"Bearer {CREDENTIAL}"
        return web.Response(status=self.status_code if allowed else 401, body=orjson.dumps(self.said))

    async def generate(self, request: web.Request) -> web.Response:
        self.generations.append(await request.json())
        reply = {"response": "a", "done": True, "eval_count": 1, "eval_duration": 20_000_000}
        failure = {"error": "llama runner process has terminated"}
        body = reply if self.generate_code == 200 else failure
        return web.Response(status=self.generate_code, body=orjson.dumps(body))


class Agents:
    """The real client, told where the stand-ins listen instead of at the pods' addresses."""

    def __init__(self, session: ClientSession, agents: dict[str, StandInAgent]) -> None:
        self._client = AgentClient(session, CREDENTIAL, seconds=1)
        self._agents = agents
        self.running = 0
        self.most = 0

    async def status(self, base_url: str) -> AgentStatus:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._client.status(self._agents[base_url].url)
        finally:
            self.running -= 1

    async def generate_one(
        self, base_url: str, model: str, constants: dict[str, Any], *, seconds: float = 60.0
    ) -> OneToken:
        return await self._client.generate_one(self._agents[base_url].url, model, constants, seconds=seconds)


class Stage:
    """Everything that a test turns: time, pods, what agents say; and what came of it."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
        self.cache = Cache()
        self.agents: dict[str, StandInAgent] = {}
        self.rows: list[tuple[Row, bool]] = []
        self.told: list[tuple[str, str]] = []
        self.platform = PlatformConfig(
            agent_image="retinue:0.1.0",
            default_profile="small",
            profiles=[Profile(name="small", image="ollama/ollama:0.24.0")],
            model_registries=[ModelRegistry(host="registry.ollama.ai", default=True)],
            external_servers=[ExternalServer(name="lab", url="http://127.0.0.1:1")],
            health=HealthSettings(probe_seconds=15, generate_seconds=300, row_seconds=60),
        )
        self.client: Agents
        self.prober: HealthProber
        self.runners: list[web.AppRunner] = []
        self._version = 0

    def put(self, row: Row, *, transition: bool = False) -> None:
        self.rows.append((row, transition))

    def see(self, kind: str, name: str, namespace: str = "retinue-models", **rest: Any) -> None:
        """An object as the API server would send it now."""
        self._version += 1
        metadata = {"namespace": namespace, "name": name, "uid": f"uid-{name}", "resourceVersion": str(self._version)}
        metadata |= rest.pop("metadata", {})
        self.cache.put({"kind": kind, "metadata": metadata, **rest})

    def add_server(self, name: str = SERVER, **spec: Any) -> None:
        model = {"name": "smollm2:135m", "digest": "sha256:9"}
        runner = {"numCtx": 2048}
        place = {} if "externalServer" in spec else {"profile": "small"}
        self.see("ModelServer", name, spec={"model": model, "runner": runner, **place} | spec)

    async def add_pod(self, number: int, agent: StandInAgent | None = None, of: str = SERVER) -> StandInAgent:
        agent = agent or StandInAgent()
        application = web.Application()
        application.router.add_get("/status", agent.status)
        application.router.add_post("/api/generate", agent.generate)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        agent.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.agents[f"http://10.1.0.{number}:8080"] = agent
        self.runners.append(runner)
        self.see(
            "Pod",
            f"{of}-{number}",
            metadata={"labels": {"retinue.dev/model-server": of}},
            status={"phase": "Running", "podIP": f"10.1.0.{number}"},
        )
        return agent

    def add_deployment(self, name: str = "helper", ready: int = 1, available: str = "True") -> None:
        self.see(
            "AssistantRevision",
            f"{name}-0123456789",
            "bots",
            spec={"digest": "sha256:1", "snapshot": {"model": {"name": "smollm2:135m", "digest": "sha256:9"}}},
        )
        self.see(
            "AssistantDeployment",
            name,
            "bots",
            spec={"assistant": name, "replicas": 1},
            status={
                "observedGeneration": 1,
                "environment": "development",
                "activeRevision": f"{name}-0123456789",
                "modelServer": SERVER,
                "readyReplicas": ready,
                "conditions": [{"type": "Available", "status": available, "reason": "Said"}],
            },
        )

    async def after(self, seconds: float) -> None:
        """Let time pass in steps of one second, as the prober's own loop does."""
        for _ in range(int(seconds)):
            self.time += timedelta(seconds=1)
            self.prober.tick()
            await self.prober.idle()

    def pod_rows(self, probe: str = "status") -> list[PodHealth]:
        return [row for row, _ in self.rows if isinstance(row, PodHealth) and row.probe == probe]

    def deployment_rows(self) -> list[DeploymentHealth]:
        return [row for row, _ in self.rows if isinstance(row, DeploymentHealth)]

    def transitions(self) -> list[Row]:
        return [row for row, transition in self.rows if transition]


@asynccontextmanager
async def stage(concurrency: int = 32) -> AsyncIterator[Stage]:
    """A stage with a prober on it, and everything cleared away afterwards."""
    made = Stage()
    try:
        async with new_session() as session:
            made.client = Agents(session, made.agents)
            made.prober = HealthProber(
                cache=made.cache,
                platform=lambda: made.platform,
                agents=made.client,
                session=session,
                rows=made,
                on_change=lambda namespace, name: made.told.append((namespace, name)),
                concurrency=concurrency,
                now=lambda: made.time,
            )
            yield made
    finally:
        for runner in made.runners:
            await runner.cleanup()
