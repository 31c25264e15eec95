"""What the operator's probes say, and the credential that follows its file."""

import hashlib
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from retinue.observability.http import Answer
from retinue.ollama.errors import AgentRefused
from retinue.operator_app.agents import RotatingAgents
from retinue.operator_app.settings import OperatorSettings
from retinue.operator_app.start_error import StartError, read_platform
from retinue.operator_app.wellbeing import Wellbeing

pytestmark = pytest.mark.unit


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Listing:
    """Stands where the relist is asked for its age."""

    def __init__(self, age: float | None) -> None:
        self.age = age


def wellbeing(age: float | None, *, leading: bool = True, answered: int = 200, later: float = 0) -> Wellbeing:
    clock = Clock()
    made = Wellbeing(relist_seconds=600, clock=clock)
    made.relist = Listing(age)  # type: ignore[assignment]
    made.started = True
    made.lead(leading)
    clock.now += later
    made.answered(answered)
    return made


@pytest.mark.parametrize(
    ("made", "well"),
    [
        (wellbeing(10), True),
        (wellbeing(1499), True),
        (wellbeing(1501, later=1501), False),
        (wellbeing(1501, later=1501, answered=0), True),
        (wellbeing(9999, later=10), True),
        (wellbeing(None, later=1499), True),
        (wellbeing(None, later=1501), False),
        (wellbeing(9999, leading=False), True),
    ],
)
def test_it_is_ill_only_if_nothing_is_listed_although_the_api_server_answers(made: Wellbeing, well: bool) -> None:
    assert made.healthy()[0] is well


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (wellbeing(10), (True, "leading")),
        (wellbeing(None), (False, "listing")),
        (wellbeing(None, leading=False), (True, "standing by")),
        (Wellbeing(relist_seconds=600), (False, "starting")),
    ],
)
def test_it_is_ready_when_it_stands_by_or_has_listed_everything(made: Wellbeing, says: Answer) -> None:
    assert made.ready() == says


async def test_a_rotated_credential_is_used_without_a_restart(tmp_path: Path) -> None:
    accepted = {hashlib.sha256(b"old").hexdigest()}

    async def status(request: web.Request) -> web.Response:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        if hashlib.sha256(token.encode()).hexdigest() not in accepted:
            return web.Response(status=401)
        return web.json_response({"phase": "Ready"})

    app = web.Application()
    app.router.add_get("/status", status)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = "http://{}:{}".format(*runner.addresses[0][:2])
    file = tmp_path / "credential"
    file.write_text("old\n")
    try:
        async with aiohttp.ClientSession() as session:
            agents = RotatingAgents(session, file)
            assert (await agents.status(url)).ready
            accepted.clear()
            accepted.add(hashlib.sha256(b"new").hexdigest())
            with pytest.raises(AgentRefused):
                await agents.status(url)
            replaced = tmp_path / "next"
            replaced.write_text("new\n")
            replaced.rename(file)
            assert (await agents.status(url)).ready
            file.unlink()
            assert (await agents.status(url)).ready
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("listen", ["8081", "0.0.0.0", "0.0.0.0:http", "0.0.0.0:70000"])
def test_an_address_without_a_port_is_refused_by_name(listen: str) -> None:
    with pytest.raises(ValueError, match="RETINUE_OPERATOR_LISTEN"):
        OperatorSettings(listen=listen)


def test_a_platform_file_that_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="RETINUE_PLATFORM_FILE"):
        read_platform(tmp_path / "none.yaml")
    wrong = tmp_path / "platform.yaml"
    wrong.write_text("profiles: 7")
    with pytest.raises(StartError, match="is not a platform file"):
        read_platform(wrong)
