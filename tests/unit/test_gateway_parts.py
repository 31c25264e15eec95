"""The parts of the gateway that need no network: balance, secrets, health, metrics, the snapshot on disk."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from builders import make_deployment, make_model_server, make_revision
from retinue.domain.chat_translation import Outcome
from retinue.domain.route_snapshot import SnapshotDamaged, read_snapshot, write_snapshot
from retinue.domain.routing import Route, RouteObjects, RouteState, RouteTable, Target
from retinue.domain.served_revision import serve_revision
from retinue.gateway.balance import AVOID_SECONDS, Balancer
from retinue.gateway.feed import KINDS, RouteFeed
from retinue.gateway.health import Health
from retinue.gateway.metrics import GatewayMetrics
from retinue.gateway.secrets import RECHECK_SECONDS, SecretFile, TokenCheck
from retinue.gateway.settings import GatewaySettings
from retinue.gateway.snapshot import SnapshotFile
from retinue.kube.cache import Cache
from retinue.resources.platform import PlatformConfig

pytestmark = pytest.mark.unit

PLATFORM = PlatformConfig.model_validate(
    {
        "agentImage": "retinue:test",
        "defaultProfile": "small-cpu",
        "profiles": [{"name": "small-cpu", "image": "ollama"}],
        "modelRegistries": [{"host": "registry.test", "default": True}],
    }
)
PODS = tuple(Target(f"http://10.0.0.{i}:8080", f"pod-{i}") for i in range(3))


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


# Balance ----------------------------------------------------------------------------------------------------------


def test_the_pod_with_the_fewest_requests_is_taken_and_ties_are_spread() -> None:
    balancer = Balancer(seed=1)
    taken = Counter(t.name for t in (balancer.take(PODS) for _ in range(30)) if t)
    assert set(taken.values()) == {10}
    firsts = {Balancer(seed=i).take(PODS) for i in range(20)}
    assert firsts == set(PODS)


def test_a_place_that_is_given_back_is_taken_next() -> None:
    balancer = Balancer(seed=1)
    for _ in range(6):
        balancer.take(PODS)
    balancer.give_back(PODS[1])
    assert balancer.take(PODS) == PODS[1]
    for pod in PODS * 2:
        balancer.give_back(pod)
    assert [balancer.in_flight(p) for p in PODS] == [0, 0, 0]


def test_a_pod_that_was_tried_is_not_taken_again() -> None:
    balancer = Balancer()
    assert balancer.take(PODS, [PODS[0].url, PODS[1].url]) == PODS[2]
    assert balancer.take(PODS, [p.url for p in PODS]) is None
    assert balancer.take(()) is None


def test_a_pod_that_could_not_be_reached_is_left_alone_for_a_while_unless_it_is_the_last() -> None:
    clock = Clock()
    balancer = Balancer(clock)
    balancer.avoid(PODS[0])
    assert all(balancer.take(PODS) != PODS[0] for _ in range(6))
    assert balancer.take(PODS[:1]) == PODS[0]
    clock.now += AVOID_SECONDS
    balancer.give_back(PODS[0])
    assert balancer.take(PODS) == PODS[0]


# Secrets ----------------------------------------------------------------------------------------------------------


def test_a_token_is_accepted_until_its_file_changes(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "token"
    path.write_text("first-token\nsecond-token\n")
    check = TokenCheck(SecretFile(path, clock))
    assert check.allows(b"Bearer first-token")
    assert check.allows(b"bearer second-token ")
    path.write_text("third-token")
    clock.now += RECHECK_SECONDS
    assert check.allows(b"Bearer third-token")
    assert not check.allows(b"Bearer first-token")


@pytest.mark.parametrize(
    "value", [None, b"", b"Bearer", b"Bearer ", b"Basic token", b"token", b"Bearer toke", b"Bearer token2"]
)
def test_anything_but_the_token_is_refused(tmp_path: Path, value: bytes | None) -> None:
    path = tmp_path / "token"
    path.write_text("token")
    assert not TokenCheck(SecretFile(path)).allows(value)


def test_an_empty_token_file_opens_nothing(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("\n \n")
    assert not TokenCheck(SecretFile(path)).allows(b"Bearer ")


def test_a_secret_that_blinks_keeps_its_last_content_and_a_swapped_mount_is_seen(tmp_path: Path) -> None:
    clock = Clock()
    for name, text in (("one", "a"), ("two", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(text)
    link = tmp_path / "data"
    link.symlink_to("one")
    file = SecretFile(link / "token", clock)
    link.unlink()
    clock.now += RECHECK_SECONDS
    assert file.lines() == (b"a",)
    link.symlink_to("two")
    clock.now += RECHECK_SECONDS
    assert file.lines() == (b"b",)
    assert "b'b'" not in repr(file)


def test_a_missing_secret_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SecretFile(tmp_path / "none")


# Health -----------------------------------------------------------------------------------------------------------


def test_only_needed_parts_decide_readiness_and_all_are_shown() -> None:
    health = Health()
    state = {"routes": True, "postgres": False}
    health.add("routes", lambda: (state["routes"], "2 routes"), needed=True)
    health.add("postgres", lambda: (state["postgres"], "away"), needed=False)
    assert health.answer("/readyz", verbose=False) == (200, "ok\n")
    assert health.answer("/healthz", verbose=True) == (200, "[+]routes 2 routes\n[-]postgres away\nok\n")
    state["routes"] = False
    assert health.answer("/readyz", verbose=False) == (503, "not ready\n")
    state["routes"], health.draining = True, True
    assert health.answer("/readyz", verbose=False) == (503, "not ready\n")
    assert health.answer("/livez", verbose=False) == (200, "ok\n")
    assert health.answer("/other", verbose=False) is None


def test_the_end_of_a_background_task_ends_the_life_of_the_process() -> None:
    health = Health()
    alive = [True]
    health.keep_alive(lambda: alive[0])
    assert health.answer("/livez", verbose=False) == (200, "ok\n")
    alive[0] = False
    assert health.answer("/livez", verbose=False) == (503, "a background task has ended\n")


# Metrics ----------------------------------------------------------------------------------------------------------


def route(revision_prompt: str) -> Route:
    snapshot = make_revision()["spec"]["snapshot"] | {
        "prompts": [{"name": "system", "role": "Primary", "text": revision_prompt}]
    }
    revision = serve_revision(make_revision(snapshot=snapshot))
    return Route("bots", "helper", "u", 0, RouteState.SERVING, revision=revision)


def test_a_request_is_measured_with_the_semantic_conventions_names() -> None:
    metrics = GatewayMetrics()
    served = route("a")
    assert served.revision is not None
    metrics.request(served, served.revision.name, "", 0.3)
    metrics.tokens(served, served.revision.name, Outcome(True, "stop", 11, 3), 0.1, 0.3)
    text = metrics.render()[0].decode()
    labels = f'deployment="helper",namespace="bots",revision="{served.revision.name}"'
    for line in (
        f'gen_ai_server_request_duration_seconds_count{{deployment="helper",error_type="",namespace="bots",'
        f'revision="{served.revision.name}"}} 1.0',
        f"gen_ai_server_time_to_first_token_seconds_sum{{{labels}}} 0.1",
        f"gen_ai_server_time_per_output_token_seconds_sum{{{labels}}} 0.09",
        'gen_ai_token_type="input"',
    ):
        assert line in text


def test_series_of_revisions_that_no_route_names_any_more_go_away() -> None:
    metrics = GatewayMetrics()
    tables = [RouteTable({"bots/helper": route(p)}) for p in ("a", "b", "c")]
    names = [t.routes["bots/helper"].serving().name for t in tables]
    before = RouteTable()
    for table, name in zip(tables, names, strict=True):
        metrics.routes_changed(table, before, live=True, at=1.0)
        metrics.request(table.routes["bots/helper"], name, "overloaded", 1.0)
        before = table
    text = metrics.render()[0].decode()
    assert names[0] not in text
    assert names[1] in text
    assert names[2] in text
    assert 'retinue_gateway_routes{state="Serving"} 1.0' in text


# Snapshot ---------------------------------------------------------------------------------------------------------


def objects() -> RouteObjects:
    revision, unused = make_revision(), make_revision("other-bot")
    status = {"activeRevision": revision["metadata"]["name"], "modelServer": "m"}
    return RouteObjects([make_deployment(status=status)], [unused, revision], [make_model_server()], [])


def test_a_snapshot_keeps_what_routes_need_and_no_revision_that_nobody_serves() -> None:
    read = read_snapshot(write_snapshot(objects()))
    (revision,) = read.revisions
    assert serve_revision(revision).system_prompt == "Answer in a formal tone."


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1], lambda d: b"", lambda d: d.replace(b" 1 ", b" 2 "), lambda d: d + b" "]
)
def test_a_damaged_snapshot_is_recognised(damage: object) -> None:
    assert callable(damage)
    with pytest.raises(SnapshotDamaged):
        read_snapshot(damage(write_snapshot(objects())))


def test_a_snapshot_file_is_replaced_as_a_whole_and_only_when_it_differs(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "routes.json"
    file = SnapshotFile(path)
    assert file.load() is None
    data = write_snapshot(objects())
    assert file.save(data)
    inode = path.stat().st_ino
    assert not file.save(data)
    assert path.stat().st_ino == inode
    assert path.stat().st_mode & 0o777 == 0o600
    again = SnapshotFile(path)
    assert again.load() is not None
    assert not again.save(data)
    assert again.save(write_snapshot(RouteObjects()))
    assert [f.name for f in path.parent.iterdir()] == ["routes.json"]


# Settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [("0.0.0.0:8080", "0.0.0.0", 8080), ("[::]:0", "::", 0), (":80", "", 80), ("127.0.0.1:1", "127.0.0.1", 1)],
)
def test_listen_is_an_address_and_a_port(listen: str, host: str, port: int) -> None:
    settings = GatewaySettings(listen=listen)
    assert (settings.host, settings.port) == (host, port)


@pytest.mark.parametrize("listen", ["host:", "host:port", "host:70000", "::1:8080", ""])
def test_a_wrong_listen_is_refused_by_its_variable(listen: str) -> None:
    with pytest.raises(ValueError, match="RETINUE_GATEWAY_LISTEN"):
        GatewaySettings(listen=listen)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETINUE_PLATFORM_FILE", "/p.yaml")
    monkeypatch.setenv("RETINUE_GATEWAY_SNAPSHOT_PATH", "/s")
    settings = GatewaySettings()
    assert (settings.platform_file, settings.snapshot_path) == (Path("/p.yaml"), Path("/s"))


async def test_a_revision_that_cannot_be_written_to_disk_does_not_end_the_routes_of_all(tmp_path: Path) -> None:
    schema: dict[str, object] = {}
    for _ in range(400):
        schema = {"not": schema}
    revision = make_revision()
    revision["spec"]["snapshot"]["responseFormat"] = {"type": "JSONSchema", "schema": schema}
    cache = Cache()
    feed = RouteFeed(cache, PLATFORM, GatewayMetrics(), SnapshotFile(tmp_path / "routes.json"))
    running = asyncio.create_task(feed.run())
    deployment = make_deployment(status={"activeRevision": revision["metadata"]["name"], "modelServer": "x"})
    for kind, objects in zip(KINDS, ([deployment], [revision], [], []), strict=True):
        cache.expect(kind, (None,))
        cache.replace_all(kind, None, objects, "1")
    with capture_logs() as logs:
        async with asyncio.timeout(60):
            while not any(line["event"] == "snapshot_not_written" for line in logs):  # noqa: ASYNC110 (a log line)
                await asyncio.sleep(0.02)
    assert not running.done()
    assert feed.table().routes["bots-dev/support-bot"].state is RouteState.REVISION_NOT_SERVABLE
    running.cancel()
