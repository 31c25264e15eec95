"""How a request finds a pod, against a stand-in that misbehaves on purpose (a real Ollama cannot be told to)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from retinue.domain.refusal import Refusal
from retinue.domain.routing import Route, RouteState, Target
from retinue.gateway.balance import Balancer
from retinue.gateway.secrets import SecretFile
from retinue.gateway.upstream import Upstream

pytestmark = pytest.mark.unit

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
AGENT_WITHOUT_OLLAMA = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
DROP = b""


class Pod:
    """A stand-in for a pod: answers each request with the next of its answers, the last one for ever."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.heads: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                await reader.readexactly(length)
                self.heads.append(head)
                answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
                if answer == DROP:
                    return
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def pods(*all_pods: Pod, external: bool = False) -> AsyncIterator[Route]:
    """A route to these pods."""
    servers = [await asyncio.start_server(pod, "127.0.0.1", 0) for pod in all_pods]
    urls = [f"http://127.0.0.1:{s.sockets[0].getsockname()[1]}" for s in servers]
    targets = tuple(Target(url, f"pod-{i}", external) for i, url in enumerate(urls))
    try:
        yield Route("bots", "helper", "u", 0, RouteState.SERVING, targets=targets)
    finally:
        for server in servers:
            server.close()


async def ask(route: Route, credential: SecretFile | None = None, balancer: Balancer | None = None) -> bytes:
    balancer = balancer or Balancer()
    async with Upstream(balancer, credential, connect_seconds=2) as upstream:
        try:
            async with await upstream.ask(route, "/api/chat", b"{}") as exchange:
                return await exchange.read()
        finally:
            assert [balancer.in_flight(t) for t in route.targets] == [0] * len(route.targets)


async def refusal(route: Route) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await ask(route)
    return caught.value


@pytest.mark.parametrize("bad", [DROP, BUSY, AGENT_WITHOUT_OLLAMA])
async def test_a_pod_that_has_not_begun_is_given_up_for_another(bad: bytes) -> None:
    first, second = Pod(bad), Pod(bad)
    first._answers = second._answers = [bad, OK]
    async with pods(first, second) as route:
        assert await ask(route) == b"ok"
        assert len(first.heads) == len(second.heads) == 1


async def test_a_lost_connection_to_the_only_pod_is_tried_once_more() -> None:
    pod = Pod(DROP, OK)
    async with pods(pod) as route:
        assert await ask(route) == b"ok"
    pod = Pod(DROP)
    async with pods(pod) as route:
        assert (await refusal(route)).code == "pods_unreachable"
        assert len(pod.heads) == 2


async def test_when_every_pod_is_full_the_client_learns_when_to_come_back() -> None:
    async with pods(Pod(BUSY), Pod(BUSY), Pod(BUSY)) as route:
        found = await refusal(route)
        assert (found.status, found.code, found.retry_after) == (503, "overloaded", 7)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", 400),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", 502),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 502),
        (b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", 502),
        (b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n", 502),
        (b"not HTTP at all\r\n\r\n", 502),
    ],
)
async def test_a_pod_that_has_decided_is_not_asked_twice(answer: bytes, status: int) -> None:
    first, second = Pod(answer), Pod(answer)
    async with pods(first, second) as route:
        assert (await refusal(route)).status == status
        assert len(first.heads) + len(second.heads) == 1


async def test_a_pod_where_nobody_listens_is_left_for_the_others() -> None:
    balancer = Balancer()
    async with pods(Pod(OK), Pod(OK)) as route:
        async with pods(Pod(OK)) as gone:
            dead = gone.targets
        both = Route("bots", "helper", "u", 0, RouteState.SERVING, targets=(*dead, *route.targets))
        for _ in range(6):
            assert await ask(both, balancer=balancer) == b"ok"
        only = Route("bots", "helper", "u", 0, RouteState.SERVING, targets=dead)
        assert (await refusal(only)).code == "pods_unreachable"


@pytest.mark.parametrize("external", [False, True])
async def test_pods_get_the_credential_and_external_servers_never(external: bool, tmp_path: Path) -> None:
    path = tmp_path / "credential"
    path.write_text("the-credential\n")
    pod = Pod(OK)
    async with pods(pod, external=external) as route:
        await ask(route, SecretFile(path))
    assert (b"Authorization: Bearer the-credential" in pod.heads[0]) is not external


async def test_a_reply_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retinue.gateway.upstream.REPLY_LIMIT", 1)
    async with pods(Pod(OK)) as route:
        assert (await refusal(route)).status == 502


async def test_a_caller_that_is_cancelled_gives_its_place_back() -> None:
    waiting = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        waiting.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    target = Target(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "pod")
    route = Route("bots", "helper", "u", 0, RouteState.SERVING, targets=(target,))
    task = asyncio.create_task(ask(route))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.close()
