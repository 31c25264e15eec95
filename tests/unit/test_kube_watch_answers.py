"""Answers to a watch that are none, as load balancers and proxies give them."""

from pathlib import Path

import pytest
import yaml
from aiohttp import web

from retinue.kube import errors
from retinue.kube.aio import connect
from retinue.kube.resources import ASSISTANT

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("line", ["<html>down for maintenance</html>", "[]", "{}", '{"type": "ADDED"}'])
async def test_an_answer_that_is_no_watch_is_an_outage_and_ends_nothing(tmp_path: Path, line: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=line + "\n")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [
                    {"name": "c", "cluster": {"server": "http://{}:{}".format(*runner.addresses[0][:2])}},
                ],
                "users": [{"name": "u", "user": {}}],
            }
        )
    )
    client = await connect(str(kubeconfig))
    try:
        with pytest.raises(errors.Unavailable):
            async for _ in client.watch(ASSISTANT, "bots-dev", resource_version="1"):
                pass
    finally:
        await client.close()
        await runner.cleanup()
