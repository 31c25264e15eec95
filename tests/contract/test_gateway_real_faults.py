"""What clients see when a real Ollama dies, freezes or does not chat, and when the gateway itself is told to stop."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from builders import MODEL_DIGEST, make_deployment, make_model_server, make_revision, make_snapshot
from gateway_process import TOKEN, GatewayProcess, chat, platform, running
from retinue.domain.routing import RouteObjects
from testbed.ollama_server import OllamaServer

pytestmark = pytest.mark.contract

LONG = "Write a very long story about a river."


@pytest.fixture(scope="module")
def server() -> Iterator[OllamaServer]:
    """An Ollama of this module's own, with a base model that has no chat template."""
    with OllamaServer(preload=True) as server:
        create = {"model": "base:135m", "from": "smollm2:135m", "template": "{{ .Prompt }}", "stream": False}
        assert httpx.post(f"{server.url}/api/create", json=create, timeout=120).status_code == 200
        yield server


def objects() -> RouteObjects:
    deployments, revisions, servers = [], [], []
    for name, model in (("story", "smollm2:135m"), ("base", "base:135m")):
        runner = {"numCtx": 2048}
        snapshot = make_snapshot(
            model={"name": model, "digest": MODEL_DIGEST}, runner=runner, options={"temperature": "0", "maxTokens": 400}
        )
        revision = make_revision(name, snapshot=snapshot)
        model_server = make_model_server(model=model, digest=MODEL_DIGEST, runner=runner, external_server="own")
        status = {"activeRevision": revision["metadata"]["name"], "modelServer": model_server["metadata"]["name"]}
        deployments.append(make_deployment(name, status=status))
        revisions.append(revision)
        servers.append(model_server)
    return RouteObjects(deployments, revisions, servers, [])


@contextlib.contextmanager
def started(server: OllamaServer, folder: Path, **env: str) -> Iterator[GatewayProcess]:
    """A gateway with these settings before an Ollama that has the model loaded as the revision wants it."""
    process = GatewayProcess(folder, platform({"own": server.url}))
    process.env = {f"RETINUE_GATEWAY_{name}": value for name, value in env.items()}
    process.write_snapshot(objects())
    warm = {"model": "smollm2:135m", "keep_alive": -1, "options": {"num_ctx": 2048}}
    assert httpx.post(f"{server.url}/api/generate", json=warm, timeout=120).status_code == 200
    with running(process):
        yield process


@pytest.fixture(scope="module")
def gateway(server: OllamaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with started(server, tmp_path_factory.mktemp("gateway")) as process:
        yield process


def events(response: httpx.Response) -> Iterator[Any]:
    for line in response.iter_lines():
        if line:
            data = line.removeprefix("data: ")
            yield data if data == "[DONE]" else orjson.loads(data)


def story(client: httpx.Client, **fields: Any) -> Any:
    body = chat(LONG, **{"model": "story", "stream": True, "max_tokens": 40, **fields})
    return client.stream("POST", "/v1/chat/completions", json=body)


def test_a_base_model_without_a_chat_template_continues_the_text(gateway: GatewayProcess) -> None:
    with gateway.client() as client:
        response = client.post("/v1/chat/completions", json=chat("Once upon a time", model="base", max_tokens=8))
        assert response.status_code == 200, response.text
        assert response.json()["choices"][0]["message"]["content"]
        assert response.json()["usage"]["completion_tokens"] == 8


def test_a_model_that_dies_in_the_middle_ends_the_stream_with_an_error_event(
    gateway: GatewayProcess, server: OllamaServer
) -> None:
    with gateway.client() as client:
        try:
            with story(client, max_tokens=400) as response:
                got = events(response)
                assert next(got)["choices"]
                server.kill()
                rest = list(got)
            assert rest[-1]["error"]["code"] in ("upstream_incomplete", "upstream_error")
            assert "[DONE]" not in rest
            down = client.post("/v1/chat/completions", json=chat("hi", model="story"))
            assert (down.status_code, down.json()["error"]["code"]) == (503, "pods_unreachable")
            assert "retry-after" in down.headers
        finally:
            server.start()
        again = client.post("/v1/chat/completions", json=chat("hi", model="story", max_tokens=1))
        assert again.status_code == 200, again.text
    assert '"error":"upstream' in gateway.log


def test_a_model_that_hangs_ends_at_the_deadline(server: OllamaServer, tmp_path: Path) -> None:
    with started(server, tmp_path, FIRST_BYTE_SECONDS="10") as gateway, gateway.client() as client:
        server.freeze()
        try:
            with story(client) as response:
                response.read()
                assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
        finally:
            server.thaw()
        with story(client) as response:
            assert list(events(response))[-1] == "[DONE]"


def test_the_total_deadline_ends_a_stream_that_has_begun(server: OllamaServer, tmp_path: Path) -> None:
    with (
        started(server, tmp_path, TOTAL_SECONDS="10") as process,
        process.client() as client,
        story(client, max_tokens=400) as response,
    ):
        got = events(response)
        assert next(got)["choices"]
        server.freeze()
        try:
            assert list(got)[-1]["error"]["code"] == "deadline_exceeded"
        finally:
            server.thaw()


def test_on_sigterm_running_streams_finish_and_the_process_ends(server: OllamaServer, tmp_path: Path) -> None:
    with (
        started(server, tmp_path) as gateway,
        gateway.client() as client,
        story(client, max_tokens=120) as response,
    ):
        got = events(response)
        assert next(got)["choices"]
        codes: list[int] = []
        stopping = threading.Thread(target=lambda: codes.append(gateway.stop()))
        stopping.start()
        assert list(got)[-1] == "[DONE]"
        stopping.join()
        assert codes == [0]
        with pytest.raises(httpx.ConnectError):
            httpx.get(gateway.url)


def test_a_stream_that_outlasts_the_drain_is_cut_and_not_waited_for(server: OllamaServer, tmp_path: Path) -> None:
    with (
        started(server, tmp_path, DRAIN_SECONDS="1") as process,
        process.client() as client,
        story(client, max_tokens=400) as response,
    ):
        assert next(events(response))["choices"]
        server.freeze()
        try:
            assert process.stop() == 0
        finally:
            server.thaw()
    assert "Traceback" not in process.log


# Hostile clients --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway without any model: nothing here gets that far."""
    process = GatewayProcess(tmp_path_factory.mktemp("victim"))
    process.write_snapshot(RouteObjects())
    with running(process):
        yield process


def raw(victim: GatewayProcess, data: bytes) -> bytes:
    """Send bytes and read until the other side closes."""
    with socket.create_connection(("127.0.0.1", victim.port), timeout=30) as connection:
        parts = []
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts)


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", b"400"),
        (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", b"400"),
        (HEAD + b"Content-Length: -1\r\n\r\n", b"400"),
        (HEAD + b"Content-Length: 99999999999\r\n\r\n", b"413"),
        (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", b"415"),
        (HEAD + b"X: y\r\n" * 10000 + b"\r\n", b"431"),
        (HEAD + b"X: " + b"y" * 100_000, b"431"),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", b"431"),
    ],
)
def test_a_hostile_request_gets_a_status_and_loses_its_connection(
    victim: GatewayProcess, data: bytes, status: bytes
) -> None:
    answer = raw(victim, data)
    assert answer.split(b" ", 2)[1] == status, answer[:300]
    with victim.client() as client:
        assert client.get("/livez").status_code == 200


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b'"\\ud800"', b"{}" * 2, b"null"]
)
def test_a_body_that_is_no_json_object_is_a_400(victim: GatewayProcess, body: bytes) -> None:
    with victim.client() as client:
        assert client.post("/v1/chat/completions", content=body).status_code == 400


def test_a_body_beyond_the_limit_is_refused_however_it_is_sent(victim: GatewayProcess) -> None:
    with victim.client() as client:
        whole = client.post("/v1/chat/completions", content=b"x" * (1024 * 1024 + 1))
        assert (whole.status_code, whole.json()["error"]["code"]) == (413, "body_too_large")

        def pieces() -> Iterator[bytes]:
            for _ in range(40):
                yield b"x" * 65536

        # The connection may be closed while the client is still sending, which is what a 413 is for.
        with contextlib.suppress(httpx.ReadError, httpx.WriteError):
            assert client.post("/v1/chat/completions", content=pieces()).status_code == 413


def test_a_client_that_never_ends_its_head_loses_its_connection(victim: GatewayProcess) -> None:
    assert raw(victim, b"GET /livez HTTP/1.1\r\nHost: x\r\n") == b""
