"""The probes' port and the metrics page."""

import asyncio

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from retinue.kube.cache import Key
from retinue.observability.http import HealthServer, application
from retinue.observability.lag import measure_lag
from retinue.observability.metrics import LEADER, ApiCalls, Metrics, WorkMetrics
from retinue.reconcile.queue import Queue

pytestmark = pytest.mark.unit


def samples(metrics: Metrics) -> dict[str, float]:
    """Name and labels of every sample of ours, as they would be scraped."""
    found = {}
    for family in text_string_to_metric_families(metrics.render()[0].decode()):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def test_the_port_answers_for_its_checks() -> None:
    state = {"healthy": (True, "well"), "ready": (False, "listing")}
    metrics = Metrics("operator")
    server = HealthServer(
        application(lambda: state["healthy"], lambda: state["ready"], metrics.render), port=0, host="127.0.0.1"
    )
    await server.start()
    base = f"http://127.0.0.1:{server.port}"
    async with aiohttp.ClientSession() as session:

        async def ask(path: str) -> tuple[int, str]:
            async with session.get(base + path) as answer:
                return answer.status, await answer.text()

        assert await ask("/healthz") == (200, "well\n")
        assert await ask("/readyz") == (503, "listing\n")
        state["ready"] = (True, "leading")
        assert await ask("/readyz") == (200, "leading\n")
        status, page = await ask("/metrics")
        assert status == 200
        assert 'retinue_info{role="operator"' in page
        assert (await ask("/anything-else"))[0] == 404
    await server.stop()
    await server.stop()


async def test_the_queue_and_the_workers_are_counted() -> None:
    metrics = Metrics("operator")
    work = WorkMetrics(metrics)
    queue = Queue(metrics=work)
    key = Key("Assistant", "team", "a")
    queue.add(key)
    queue.add_after(Key("Assistant", "team", "b"), 60)
    found = samples(metrics)
    assert (found["retinue_queue_ready"], found["retinue_queue_delayed"]) == (1, 1)
    queue.done(await queue.get())
    queue.retry(key)
    work.finished("Assistant", "conflict", 0.2)
    found = samples(metrics)
    assert found["retinue_queue_adds_total{kind=Assistant}"] == 1
    assert found["retinue_queue_retries_total{kind=Assistant}"] == 1
    assert found["retinue_queue_wait_seconds_count{kind=Assistant}"] == 1
    assert found["retinue_reconciles_total{kind=Assistant,result=conflict}"] == 1
    queue.shut_down()


def test_calls_to_the_api_server_are_counted_by_verb_resource_and_code() -> None:
    metrics = Metrics("operator")
    calls = ApiCalls(metrics)
    calls("APPLY", "assistants/status", 200, 0.01)
    calls("GET", "pods", 0, 5.0)
    found = samples(metrics)
    assert found["retinue_api_calls_total{code=200,resource=assistants/status,verb=APPLY}"] == 1
    assert found["retinue_api_calls_total{code=0,resource=pods,verb=GET}"] == 1


def test_a_gauge_can_be_asked_at_every_scrape() -> None:
    metrics = Metrics("operator")
    leading = [0.0]
    metrics.gauge(LEADER, lambda: leading[0])
    assert samples(metrics)["retinue_leader"] == 0
    leading[0] = 1.0
    assert samples(metrics)["retinue_leader"] == 1


def test_two_roles_in_one_process_do_not_share_a_registry() -> None:
    first, second = Metrics("operator"), Metrics("gateway")
    first.gauge(LEADER).set(1)
    assert "retinue_leader" in samples(first)
    assert "retinue_leader" not in samples(second)


async def test_a_blocked_loop_shows_in_the_lag() -> None:
    seen: list[float] = []
    task = asyncio.create_task(measure_lag(seen.append, every_seconds=0.01))
    await asyncio.sleep(0.05)
    threading_block(0.2)
    await asyncio.sleep(0.05)
    task.cancel()
    assert max(seen) > 0.1


def threading_block(seconds: float) -> None:
    """What nobody should do in a loop."""
    import time

    time.sleep(seconds)
