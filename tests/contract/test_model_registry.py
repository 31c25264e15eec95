"""Digests from a real registry, and what happens when it is slow, silent, wrong or closed."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from retinue.outbound.model_registry import ACCEPT, ModelRegistries, RegistryError
from retinue.resources.platform import ModelRegistry
from testbed.model_registry import ModelRegistry as RealRegistry

pytestmark = pytest.mark.contract

MANIFEST = b'{"schemaVersion":2,"layers":[]}'
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def listed(host: str, *, insecure: bool = True, secret: str | None = None) -> ModelRegistry:
    return ModelRegistry(host=host, default=True, insecure=insecure, credentials_secret=secret)


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[str]:
    """A stand-in registry for answers that the real one never gives; yields host:port."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield "{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


@asynccontextmanager
async def asking(
    *registries: ModelRegistry, folder: Path | None = None, seconds: float = 5
) -> AsyncIterator[ModelRegistries]:
    client = ModelRegistries(registries, credentials_folder=folder, seconds=seconds)
    try:
        yield client
    finally:
        await client.close()


async def refused(registries: ModelRegistries, name: str = "smollm2:135m") -> RegistryError:
    with pytest.raises(RegistryError) as caught:
        await registries.digest(name)
    return caught.value


async def test_the_digest_is_the_one_that_ollama_shows_after_a_pull(model_registry: RealRegistry) -> None:
    async with asking(listed(model_registry.address)) as registries:
        assert await registries.digest("smollm2:135m") == model_registry.digest("smollm2:135m")
        named = f"{model_registry.address}/library/smollm2:135m"
        assert await registries.digest(named) == model_registry.digest("smollm2:135m")


async def test_a_model_that_is_not_there_is_unknown(model_registry: RealRegistry) -> None:
    async with asking(listed(model_registry.address)) as registries:
        error = await refused(registries, "nobody:1b")
    assert error.reason == "ModelUnknown"
    assert "nobody:1b" in str(error)


async def test_a_registry_that_hangs_is_given_up(model_registry: RealRegistry) -> None:
    model_registry.freeze()
    try:
        async with asking(listed(model_registry.address), seconds=1) as registries:
            assert (await refused(registries)).reason == "RegistryUnreachable"
    finally:
        model_registry.thaw()


async def test_a_registry_that_is_away_is_unreachable() -> None:
    async with asking(listed("127.0.0.1:9")) as registries:
        assert (await refused(registries)).reason == "RegistryUnreachable"


async def test_a_host_that_is_not_listed_is_never_asked() -> None:
    asked: list[str] = []

    async def note(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=MANIFEST)

    async with answering(note) as host, asking(listed("models.example")) as registries:
        assert (await refused(registries, f"{host}/library/smollm2:135m")).reason == "ModelRegistryNotAllowed"
    assert asked == []


async def test_it_asks_for_the_manifest_form_that_ollama_hashes() -> None:
    async def manifest(request: web.Request) -> web.Response:
        assert request.path == "/v2/library/smollm2/manifests/135m"
        assert request.headers["Accept"] == ACCEPT
        return web.Response(body=MANIFEST)

    async with answering(manifest) as host, asking(listed(host)) as registries:
        assert await registries.digest("smollm2:135m") == f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"


@pytest.mark.parametrize(
    ("status", "headers", "body", "reason"),
    [
        (500, {}, b"", "RegistryUnreachable"),
        (429, {}, b"", "RegistryUnreachable"),
        (403, {}, b"", "RegistryDenied"),
        (401, {}, b"", "RegistryDenied"),
        (307, {"Location": "http://169.254.169.254/latest"}, b"", "RegistryAnswerInvalid"),
        (200, {}, b"<html>", "RegistryAnswerInvalid"),
        (200, {}, b'{"errors":[]}', "RegistryAnswerInvalid"),
        (200, {}, b"x" * (5 * 1024 * 1024), "RegistryAnswerInvalid"),
        (200, {"Docker-Content-Digest": f"sha256:{'0' * 64}"}, MANIFEST, "RegistryAnswerInvalid"),
        (401, {"WWW-Authenticate": 'Bearer realm="http://169.254.169.254/token"'}, b"", "RegistryAnswerInvalid"),
    ],
)
async def test_an_answer_that_is_no_manifest_gives_no_digest(
    status: int, headers: dict[str, str], body: bytes, reason: str
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers, body=body)

    async with answering(answer) as host, asking(listed(host)) as registries:
        assert (await refused(registries)).reason == reason


async def test_credentials_are_read_from_the_mounted_secret_and_never_told(tmp_path: Path) -> None:
    async def guarded(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Basic YW5uOnMzY3JldA==":
            return web.Response(status=401)
        return web.Response(body=MANIFEST)

    async with answering(guarded) as host, asking(listed(host, secret="models"), folder=tmp_path) as registries:
        missing = await refused(registries)
        assert missing.reason == "RegistryDenied"
        assert "username and password" in str(missing)
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "username").write_text("ann\n")
        (tmp_path / "models" / "password").write_text("wrong-s3cret\n")
        denied = await refused(registries)
        assert denied.reason == "RegistryDenied"
        assert "s3cret" not in str(denied)
        (tmp_path / "models" / "password").write_text("s3cret\n")
        assert await registries.digest("smollm2:135m")


async def test_a_token_service_of_the_registry_is_asked_for_this_one_model() -> None:
    async def guarded(request: web.Request) -> web.Response:
        if request.path == "/token":
            assert request.query["scope"] == "repository:library/smollm2:pull"
            assert request.query["service"] == "models"
            return web.json_response({"token": "abc"})
        if request.headers.get("Authorization") != "Bearer abc":
            realm = f'Bearer realm="http://{request.host}/token",service="models"'
            return web.Response(status=401, headers={"WWW-Authenticate": realm})
        return web.Response(body=MANIFEST)

    async with answering(guarded) as host, asking(listed(host)) as registries:
        assert await registries.digest("smollm2:135m")
