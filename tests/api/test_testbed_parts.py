"""The parts that other tests stand on are real and can be broken: Postgres, Ollama and the model registry."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from testbed.model_registry import ModelRegistry
from testbed.ollama_server import OllamaServer
from testbed.postgres_server import PostgresServer
from testbed.processes import kill_all, marked

pytestmark = pytest.mark.api


@pytest.fixture(scope="module")
def puller() -> Iterator[OllamaServer]:
    """An Ollama with an empty store."""
    with OllamaServer() as server:
        yield server


def pull(server: OllamaServer, name: str) -> Iterator[dict[str, object]]:
    """The progress lines of one pull."""
    request = {"model": name, "insecure": True}
    with httpx.stream("POST", f"{server.url}/api/pull", json=request, timeout=120) as answer:
        for line in answer.iter_lines():
            yield json.loads(line)


def forget(server: OllamaServer, name: str) -> None:
    httpx.request("DELETE", f"{server.url}/api/delete", json={"model": name})


def digests(server: OllamaServer) -> dict[str, str]:
    tags = httpx.get(f"{server.url}/api/tags").json()["models"]
    return {model["name"]: f"sha256:{model['digest']}" for model in tags}


async def test_a_fresh_database_is_empty_and_takes_rows(postgres: str) -> None:
    connection = await asyncpg.connect(postgres)
    try:
        assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
        await connection.execute("CREATE TABLE rows (n int)")
        await connection.copy_records_to_table("rows", records=[(1,), (2,)])
        assert await connection.fetchval("SELECT sum(n) FROM rows") == 3
    finally:
        await connection.close()


async def test_a_killed_postgres_comes_back_with_its_committed_rows() -> None:
    with PostgresServer() as server:
        connection = await asyncpg.connect(server.dsn())
        await connection.execute("CREATE TABLE rows (n int)")
        await connection.execute("INSERT INTO rows VALUES (7)")
        server.kill()
        with pytest.raises((asyncpg.PostgresConnectionError, OSError)):
            await connection.fetchval("SELECT 1")
        server.start()
        assert server.sql("SELECT n FROM rows") == "7"


async def test_a_frozen_postgres_answers_nothing_until_it_is_thawed() -> None:
    with PostgresServer() as server:
        connection = await asyncpg.connect(server.dsn())
        server.freeze()
        with pytest.raises(TimeoutError):
            await connection.fetchval("SELECT 1", timeout=0.3)
        server.thaw()
        again = await asyncpg.connect(server.dsn())
        assert await again.fetchval("SELECT 1") == 1
        await again.close()
        await connection.close(timeout=20)


def test_the_models_answer(ollama: OllamaServer) -> None:
    chat = {"model": "smollm2:135m", "stream": False, "options": {"num_predict": 8, "temperature": 0}}
    hello = {**chat, "messages": [{"role": "user", "content": "Say hello."}]}
    assert httpx.post(f"{ollama.url}/api/chat", json=hello, timeout=60).json()["message"]["content"].strip()


def test_a_pulled_model_has_the_digest_of_the_registry_and_of_the_prepared_store(
    puller: OllamaServer, ollama: OllamaServer, model_registry: ModelRegistry
) -> None:
    name = f"{model_registry.address}/library/smollm2:135m"
    lines = list(pull(puller, name))
    assert lines[-1] == {"status": "success"}
    assert any("completed" in line for line in lines)
    assert digests(puller)[name] == model_registry.digest("smollm2:135m") == digests(ollama)["smollm2:135m"]
    assert any(line.startswith("206 ") for line in model_registry.blob_requests())
    forget(puller, name)


def test_an_unknown_model_is_refused(puller: OllamaServer, model_registry: ModelRegistry) -> None:
    lines = list(pull(puller, f"{model_registry.address}/library/nobody:1"))
    assert lines[-1] == {"error": "pull model manifest: file does not exist"}


def test_a_moved_tag_pulls_other_content(puller: OllamaServer, model_registry: ModelRegistry) -> None:
    name = f"{model_registry.address}/library/smollm2:135m"
    before = model_registry.digest("smollm2:135m")
    after = model_registry.push_variant("smollm2:135m", "smollm2:135m", system="You are a parrot.")
    assert before != after == model_registry.digest("smollm2:135m")
    assert list(pull(puller, name))[-1] == {"status": "success"}
    assert digests(puller)[name] == after
    forget(puller, name)


def test_a_broken_model_pulls_and_cannot_be_loaded(puller: OllamaServer, model_registry: ModelRegistry) -> None:
    digest = model_registry.push_broken("broken:1")
    name = f"{model_registry.address}/library/broken:1"
    assert list(pull(puller, name))[-1] == {"status": "success"}
    assert digests(puller)[name] == digest
    assert httpx.post(f"{puller.url}/api/generate", json={"model": name}, timeout=60).status_code == 500
    forget(puller, name)


def test_a_pull_that_breaks_in_the_middle_goes_on_where_it_stopped(model_registry: ModelRegistry) -> None:
    name = f"{model_registry.address}/library/smollm2:135m"
    with OllamaServer() as server:
        model_registry.slow_blobs(5_000_000)
        for line in pull(server, name):
            completed = line.get("completed", 0)
            if isinstance(completed, int) and completed > 1_000_000:
                model_registry.cut_blobs()
                break
        model_registry.resume_blobs()
        for _ in range(20):
            lines = list(pull(server, name))
            if lines[-1] == {"status": "success"}:
                break
            time.sleep(0.5)  # a pull repeated at once may join the one that is ending
        assert lines[-1] == {"status": "success"}
        first = next(line["completed"] for line in lines if "completed" in line)
        assert isinstance(first, int)
        assert first > 0


def test_refused_blobs_end_a_pull_with_an_error(model_registry: ModelRegistry) -> None:
    model_registry.refuse_blobs(403)
    with OllamaServer() as server:
        assert "error" in list(pull(server, f"{model_registry.address}/library/smollm2:135m"))[-1]


def test_a_registry_of_a_cluster_is_found_by_the_mark_of_the_cluster(tmp_path: Path) -> None:
    registry = ModelRegistry(cluster_folder=tmp_path).start()
    assert registry.folder.parent == tmp_path
    first = marked(tmp_path)
    assert len(first) >= 2
    again = ModelRegistry(port=registry.port, blob_port=registry.blob_port, cluster_folder=tmp_path).start()
    assert not first & marked(tmp_path)
    kill_all(marked(tmp_path))
    for url in (f"{registry.url}/v2/", f"{registry.blob_url}/healthz"):
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)
    again.stop()
    registry.stop()


def test_a_deleted_tag_is_unknown(model_registry: ModelRegistry) -> None:
    model_registry.tag("smollm2:135m", "other:1")
    model_registry.delete("other:1")
    answer = httpx.get(f"{model_registry.url}/v2/library/other/manifests/1")
    assert answer.status_code == 404
