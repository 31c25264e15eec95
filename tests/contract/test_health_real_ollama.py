"""The prober's own checks of an external server, on a real Ollama."""

import pytest

from health_stage import Stage, stage
from retinue.ollama.client import OllamaClient, new_session
from retinue.reconcile.health import Probe
from retinue.resources.platform import ExternalServer
from testbed.ollama_server import OllamaServer

pytestmark = pytest.mark.contract

MODEL = "smollm2:135m"


async def digest_of(ollama: OllamaServer) -> str:
    async with new_session() as session:
        return await OllamaClient(session, ollama.url).digest_of(MODEL)


async def looked_at(s: Stage, ollama: OllamaServer, name: str, digest: str) -> Probe:
    lab = ExternalServer(name="lab", url=ollama.url)
    s.platform = s.platform.model_copy(update={"external_servers": [lab]})
    s.add_server("outside", externalServer="lab", model={"name": name, "digest": digest}, runner={"numCtx": 4096})
    await s.after(4)
    probe = s.prober.newest("uid-outside")
    assert probe is not None
    return probe


async def test_an_external_server_with_the_wanted_model_is_ready_once_it_gave_a_token(ollama: OllamaServer) -> None:
    async with stage() as s:
        probe = await looked_at(s, ollama, MODEL, await digest_of(ollama))
        assert (probe.ok, probe.token_ok, probe.token_error) == (True, True, None)
        assert probe.report is not None
        assert probe.report.ollama_version
        await s.after(20)
        again = s.prober.newest("uid-outside")
        assert again is not None
        assert again.report is not None
        assert again.report.loaded
        [row] = s.pod_rows("generate")
        assert row.ok
        assert row.latency_ms > 0


async def test_another_digest_of_the_same_name_is_not_ready_and_is_never_asked_for_a_token(
    ollama: OllamaServer,
) -> None:
    async with stage() as s:
        probe = await looked_at(s, ollama, MODEL, "sha256:" + "0" * 64)
        assert (probe.ok, probe.reachable, probe.reason) == (False, True, "DigestDiffers")
        assert s.pod_rows("generate") == []


async def test_a_model_that_the_server_lacks_is_named(ollama: OllamaServer) -> None:
    async with stage() as s:
        probe = await looked_at(s, ollama, "nobody:1b", "sha256:" + "0" * 64)
        assert (probe.ok, probe.reason) == (False, "ModelUnknown")
        assert "nobody:1b" in probe.message
