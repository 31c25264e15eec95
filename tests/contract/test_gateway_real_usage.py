"""Usage rows: what a real Postgres holds after real requests, and requests while it is away."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from builders import MODEL_DIGEST, make_deployment, make_model_server, make_revision, make_snapshot
from gateway_process import GatewayProcess, chat, platform, running
from history_store import dsn_file, migrated
from retinue.domain.routing import RouteObjects
from testbed.ollama_server import OllamaServer
from testbed.postgres_server import PostgresServer

pytestmark = pytest.mark.contract

MODEL = "smollm2:135m"


def objects() -> RouteObjects:
    runner = {"numCtx": 2048}
    snapshot = make_snapshot(model={"name": MODEL, "digest": MODEL_DIGEST}, runner=runner, options={"maxTokens": 8})
    revision = make_revision("helper", snapshot=snapshot)
    server = make_model_server(model=MODEL, digest=MODEL_DIGEST, runner=runner, external_server="local")
    status = {"activeRevision": revision["metadata"]["name"], "modelServer": server["metadata"]["name"]}
    deployments = [make_deployment("helper", status=status), make_deployment("asleep", spec={"suspend": True})]
    return RouteObjects(deployments, [revision], [server], [])


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[PostgresServer]:
    """A Postgres of the test's own, because it is stopped, with the schema in `postgres`."""
    with PostgresServer() as server:
        await migrated(dsn_file(tmp_path, server.dsn("postgres")))
        yield server


@pytest.fixture
def gateway(ollama: OllamaServer, database: PostgresServer, tmp_path: Path) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path / "gateway", platform({"local": ollama.url}))
    process.env["RETINUE_GATEWAY_POSTGRES_DSN_FILE"] = str(tmp_path / "dsn")
    process.env["RETINUE_GATEWAY_SPOOL_DIR"] = str(tmp_path / "spool")
    process.write_snapshot(objects())
    with running(process):
        yield process


def requests(client: httpx.Client) -> list[str]:
    """A whole answer, a streamed one, one that is refused for its fields and one that cannot be answered now."""
    ids = []
    for fields in ({"max_tokens": 2}, {"stream": True, "max_tokens": 2}, {"seed": 0.5}, {"model": "asleep"}):
        body = chat("hi", **{"model": "helper", **fields})
        ids.append(client.post("/v1/chat/completions", json=body).headers["x-request-id"])
    return ids


async def rows(database: PostgresServer) -> dict[str, Any]:
    connection = await asyncpg.connect(database.dsn("postgres"))
    try:
        return {str(r["request_id"]): dict(r) for r in await connection.fetch("SELECT * FROM usage")}
    finally:
        await connection.close()


async def test_every_request_that_had_a_route_leaves_one_row(gateway: GatewayProcess, database: PostgresServer) -> None:
    with gateway.client() as client:
        whole, streamed, malformed, asleep = requests(client)
    gateway.wait_until(lambda: gateway.metric('retinue_gateway_rows_total{outcome="stored"}') == 3, "stores no rows")
    stored = await rows(database)
    assert set(stored) == {whole, streamed, asleep}
    assert malformed not in stored
    for request in (whole, streamed):
        row = stored[request]
        assert (row["namespace"], row["deployment"], row["status"], row["error"]) == ("bots-dev", "helper", 200, "")
        assert (row["completion_tokens"], row["finish_reason"]) == (2, "length")
        assert (row["model"], row["model_digest"], row["pod"]) == (MODEL, MODEL_DIGEST, "local")
        assert row["revision"].startswith("helper-")
        assert row["prompt_tokens"] > 0
        assert row["total_ms"] >= row["queue_ms"] >= 0
    assert stored[whole]["first_token_ms"] is None
    assert stored[streamed]["stream"]
    assert 0 < stored[streamed]["first_token_ms"] <= stored[streamed]["total_ms"]
    assert (stored[asleep]["status"], stored[asleep]["error"]) == (503, "assistant_suspended")


async def test_requests_do_not_notice_a_postgres_that_is_away_and_their_rows_arrive_later(
    gateway: GatewayProcess, database: PostgresServer
) -> None:
    database.kill()
    with gateway.client() as client:
        first = requests(client)
        gateway.wait_until(lambda: "[-]postgres" in client.get("/healthz?verbose").text, "does not show it")
        assert client.get("/readyz").status_code == 200
        database.start()
        second = requests(client)
    stored = gateway.metric
    gateway.wait_until(lambda: stored('retinue_gateway_rows_total{outcome="stored"}') == 6, "stores no rows", 60)
    assert set(await rows(database)) == {*first[:2], first[3], *second[:2], second[3]}
    assert stored('retinue_gateway_rows_total{outcome="dropped"}') == 0
