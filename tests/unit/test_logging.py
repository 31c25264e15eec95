"""Every record is one JSON line with the same fields, and holds no secret."""

import asyncio
import gc
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from retinue.kube import errors
from retinue.observability.logging import configure

pytestmark = pytest.mark.unit

CANARY = "tell-nobody-this-prompt"


@pytest.fixture
def lines() -> Iterator[Any]:
    """Configures logging into a buffer and puts everything back afterwards."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    buffer = io.StringIO()
    configure("operator", "INFO", stream=buffer)

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in buffer.getvalue().splitlines()]

    yield read
    logging.captureWarnings(False)
    structlog.reset_defaults()
    root.handlers[:], root.level = before


def test_our_records_carry_their_fields_in_a_fixed_order(lines: Any) -> None:
    log = structlog.get_logger("retinue.reconcile.loop").bind(name="a", ns="team", kind="Assistant")
    log.info("applied", created=True, reconcile_id="ff")
    (line,) = lines()
    assert list(line) == [
        *("time", "level", "role", "logger", "event"),
        *("kind", "ns", "name", "reconcile_id", "created"),
    ]
    assert (line["level"], line["role"], line["event"]) == ("info", "operator", "applied")
    assert line["logger"] == "retinue.reconcile.loop"
    assert line["time"].endswith("Z")


@pytest.mark.parametrize("name", ["kopf.objects", "uvicorn.error", "aiohttp.server", "any.library"])
def test_records_of_libraries_have_the_same_form(lines: Any, name: str) -> None:
    logging.getLogger(name).warning("lost %s of %d", "one", 2)
    (line,) = lines()
    assert (line["logger"], line["level"], line["role"], line["event"]) == (
        name,
        "warning",
        "operator",
        "lost one of 2",
    )


@pytest.mark.parametrize(
    ("name", "level", "shown"),
    [
        ("kopf.objects", logging.INFO, False),
        ("kopf._core.reactor.running", logging.WARNING, False),
        ("aiohttp.access", logging.INFO, False),
        ("uvicorn.access", logging.INFO, False),
        ("httpx", logging.INFO, False),
        ("retinue.anything", logging.INFO, True),
        ("retinue.anything", logging.DEBUG, False),
    ],
)
def test_what_says_too_much_is_quiet(lines: Any, name: str, level: int, shown: bool) -> None:
    logging.getLogger(name).log(level, "words")
    assert bool(lines()) is shown


def _fail() -> None:
    prompt = CANARY
    raise ValueError(f"cannot use {prompt}")


@pytest.mark.parametrize("library", [False, True], ids=["ours", "library"])
def test_an_exception_says_where_it_was_and_not_what_was_in_it(lines: Any, library: bool) -> None:
    try:
        _fail()
    except ValueError:
        if library:
            logging.getLogger("some.library").exception("failed")
        else:
            structlog.get_logger("retinue.x").error("failed", exc_info=True)
    (line,) = lines()
    assert line["error"] == "ValueError"
    assert line["at"][-1].endswith(" _fail")
    assert line["at"][-1].startswith("test_logging.py:")
    assert CANARY not in json.dumps(line)


def test_an_error_of_the_api_server_keeps_its_summary(lines: Any) -> None:
    error = errors.Unavailable(503, "Unavailable", "etcd is away")
    structlog.get_logger("retinue.x").error("failed", exc_info=error)
    assert lines()[0]["cause"] == "503 Unavailable: etcd is away"


async def test_a_task_that_nobody_awaited_leaks_nothing(lines: Any) -> None:
    async def fails() -> None:
        _fail()

    task = asyncio.create_task(fails())
    await asyncio.wait({task})
    del task
    gc.collect()
    (line,) = lines()
    assert (line["event"], line["error"]) == ("Task exception was never retrieved", "ValueError")
    assert CANARY not in json.dumps(line)


def test_an_object_is_named_by_its_type_only(lines: Any) -> None:
    class Body:
        def __repr__(self) -> str:
            return CANARY

    structlog.get_logger("retinue.x").info("seen", body=Body())
    assert lines()[0]["body"] == "<Body>"


def test_the_same_complaint_of_kopf_is_said_once_in_a_while(lines: Any) -> None:
    for kind in ("a", "b", "c"):
        logging.getLogger("kopf.clients").error(f"Request attempt #1 failed; will retry: GET /{kind}")
    logging.getLogger("kopf.clients").error("something else")
    for _ in range(3):
        logging.getLogger("retinue.x").error("ours")
    assert [line["logger"] for line in lines()].count("kopf.clients") == 2
    assert [line["logger"] for line in lines()].count("retinue.x") == 3


def test_warnings_are_records_too(lines: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert lines()[0]["logger"] == "py.warnings"


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="log level 'LOUD' is not one of"):
        configure("operator", "LOUD")
