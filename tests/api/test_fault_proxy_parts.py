"""The fault proxies in front of Postgres and Ollama, shown on the wire."""

import asyncio
import json

import asyncpg
import httpx
import pytest

from testbed.faultproxy_faults import Cut, CutStream, EndStream, LostReply, Refuse, SilentStream
from testbed.faultproxy_http import HttpFaultProxy
from testbed.faultproxy_tcp import TcpFaultProxy
from testbed.ollama_server import OllamaServer

pytestmark = pytest.mark.api

BROKEN = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)
CHAT = {
    "model": "smollm2:135m",
    "messages": [{"role": "user", "content": "Count to ten."}],
    "options": {"num_predict": 6},
}


async def test_postgres_through_the_proxy_is_postgres(postgres: str, postgres_proxy: TcpFaultProxy) -> None:
    connection = await asyncpg.connect(postgres_proxy.dsn(postgres))
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
    assert postgres_proxy.accepted == 1


async def test_a_cut_connection_is_noticed_and_a_new_one_works(postgres: str, postgres_proxy: TcpFaultProxy) -> None:
    connection = await asyncpg.connect(postgres_proxy.dsn(postgres))
    assert postgres_proxy.cut() == 1
    with pytest.raises(BROKEN):
        await connection.fetchval("SELECT 1")
    again = await asyncpg.connect(postgres_proxy.dsn(postgres))
    await again.close()


async def test_a_database_that_is_down_refuses_and_comes_back(postgres: str, postgres_proxy: TcpFaultProxy) -> None:
    postgres_proxy.down()
    with pytest.raises(OSError, match="111"):
        await asyncpg.connect(postgres_proxy.dsn(postgres))
    postgres_proxy.up()
    await (await asyncpg.connect(postgres_proxy.dsn(postgres))).close()


async def test_a_frozen_connection_answers_after_the_thaw(postgres: str, postgres_proxy: TcpFaultProxy) -> None:
    connection = await asyncpg.connect(postgres_proxy.dsn(postgres))
    postgres_proxy.freeze()
    asked = asyncio.ensure_future(connection.fetchval("SELECT 1"))
    done, _ = await asyncio.wait([asked], timeout=0.3)
    assert not done
    postgres_proxy.thaw()
    assert await asked == 1
    await connection.close()


async def test_a_slow_database_outlasts_a_short_timeout(postgres: str, postgres_proxy: TcpFaultProxy) -> None:
    connection = await asyncpg.connect(postgres_proxy.dsn(postgres))
    postgres_proxy.delay(1)
    with pytest.raises(TimeoutError):
        await connection.fetchval("SELECT 1", timeout=0.2)
    postgres_proxy.delay(0)
    await connection.close(timeout=20)


async def test_a_commit_whose_reply_is_lost_has_happened(postgres: str, postgres_proxy: TcpFaultProxy) -> None:
    direct = await asyncpg.connect(postgres)
    await direct.execute("CREATE TABLE rows (n int)")
    connection = await asyncpg.connect(postgres_proxy.dsn(postgres))
    postgres_proxy.lose_reply(b"INSERT", nth=2)
    await connection.execute("INSERT INTO rows VALUES (1)")
    with pytest.raises(BROKEN):
        await connection.execute("INSERT INTO rows VALUES (2)")
    assert await direct.fetchval("SELECT array_agg(n ORDER BY n) FROM rows") == [1, 2]
    await direct.close()


def test_ollama_through_the_proxy_streams_the_same(ollama: OllamaServer, ollama_proxy: HttpFaultProxy) -> None:
    through, direct = (httpx.get(f"{url}/api/tags").json()["models"] for url in (ollama_proxy.url, ollama.url))
    assert sorted(through, key=lambda model: model["name"]) == sorted(direct, key=lambda model: model["name"])
    lines = list(_chat(ollama_proxy))
    assert lines[-1]["done"] is True
    assert [(seen.verb, seen.resource, seen.status) for seen in ollama_proxy.requests] == [
        ("GET", "/api/tags", 200),
        ("POST", "/api/chat", 200),
    ]


def test_ollama_refuses_cuts_and_loses_replies_on_order(ollama_proxy: HttpFaultProxy) -> None:
    ollama_proxy.inject(Refuse(503, retry_after=1, message="server busy"), resource="/api/chat")
    ollama_proxy.inject(Cut(), resource="/api/tags", nth=1)
    ollama_proxy.inject(LostReply(), resource="/api/version")
    busy = httpx.post(f"{ollama_proxy.url}/api/chat", json=CHAT)
    assert (busy.status_code, busy.json()) == (503, {"error": "server busy"})
    for path in ("tags", "version"):
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{ollama_proxy.url}/api/{path}")
        assert httpx.get(f"{ollama_proxy.url}/api/{path}").status_code == 200


def test_a_token_stream_breaks_ends_or_falls_silent(ollama_proxy: HttpFaultProxy) -> None:
    ollama_proxy.inject(CutStream(after=2), resource="/api/chat")
    with pytest.raises(httpx.RemoteProtocolError):
        list(_chat(ollama_proxy))
    ollama_proxy.inject(EndStream(after=2), resource="/api/chat")
    lines = list(_chat(ollama_proxy))
    assert len(lines) == 2
    assert not any(line["done"] for line in lines)
    ollama_proxy.inject(SilentStream(after=2), resource="/api/chat")
    with pytest.raises(httpx.ReadTimeout):
        list(_chat(ollama_proxy, timeout=1))


def _chat(proxy: HttpFaultProxy, timeout: float = 60):  # type: ignore[no-untyped-def]
    with httpx.stream("POST", f"{proxy.url}/api/chat", json=CHAT, timeout=timeout) as answer:
        for line in answer.iter_lines():
            yield json.loads(line)
