"""Each failure of Postgres is told apart by what to do about it, and says nothing that it should not."""

import asyncio
import traceback
from pathlib import Path

import asyncpg
import pytest

from retinue.store.dsn import DsnFile
from retinue.store.errors import Failure, StoreError, describe
from retinue.store.pool import Database, Limits

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("cause", "failure"),
    [
        (asyncpg.ReadOnlySQLTransactionError("x"), Failure.READ_ONLY),
        (asyncpg.DiskFullError("x"), Failure.FULL),
        (asyncpg.TooManyConnectionsError("x"), Failure.UNAVAILABLE),
        (asyncpg.AdminShutdownError("x"), Failure.UNAVAILABLE),
        (asyncpg.CannotConnectNowError("x"), Failure.UNAVAILABLE),
        (asyncpg.ConnectionDoesNotExistError("x"), Failure.UNAVAILABLE),
        (asyncpg.SerializationError("x"), Failure.UNAVAILABLE),
        (asyncpg.DeadlockDetectedError("x"), Failure.UNAVAILABLE),
        (asyncpg.QueryCanceledError("x"), Failure.UNAVAILABLE),
        (ConnectionRefusedError("x"), Failure.UNAVAILABLE),
        (TimeoutError("x"), Failure.UNAVAILABLE),
        (asyncio.CancelledError(), Failure.UNAVAILABLE),
        (asyncpg.InterfaceError("x"), Failure.UNAVAILABLE),
        (asyncpg.InvalidPasswordError("x"), Failure.REFUSED),
        (asyncpg.InvalidCatalogNameError("x"), Failure.REFUSED),
        (asyncpg.InsufficientPrivilegeError("x"), Failure.REFUSED),
        (asyncpg.UndefinedTableError("x"), Failure.SCHEMA),
        (asyncpg.UndefinedColumnError("x"), Failure.SCHEMA),
        (asyncpg.CharacterNotInRepertoireError("x"), Failure.POISON),
        (asyncpg.CheckViolationError("x"), Failure.POISON),
        (asyncpg.NotNullViolationError("x"), Failure.POISON),
        (asyncpg.DataError("x"), Failure.POISON),
        (OverflowError("x"), Failure.POISON),
        (asyncpg.InternalServerError("x"), Failure.UNKNOWN),
        (KeyError("x"), Failure.UNKNOWN),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_a_cause_has_its_class(cause: BaseException, failure: Failure) -> None:
    assert describe(cause).failure is failure
    assert describe(cause).lasting is (failure is Failure.POISON)


def test_an_error_repeats_no_word_of_its_cause() -> None:
    cause = asyncpg.CheckViolationError("canary in the message")
    cause.detail = "Failing row contains (canary)"
    assert "canary" not in str(describe(cause))


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://canary-user:canary-word@127.0.0.1:1/canary-base",
        "mysql://canary-user:canary-word@127.0.0.1/canary-base",
        "postgresql://canary-user:canary-word@127.0.0.1:port/canary-base",
        "canary-word",
    ],
)
async def test_a_connection_that_fails_shows_no_part_of_its_string(tmp_path: Path, text: str) -> None:
    file = tmp_path / "dsn"
    file.write_text(text)
    database = Database(DsnFile(file), application="test", limits=Limits(connect=1, command=1, lock=1, hard=3))

    async def work(connection: object) -> None:
        raise AssertionError("there is no server")

    with pytest.raises(StoreError) as caught:
        await database.run(work)
    await database.close()
    assert caught.value.failure in (Failure.REFUSED, Failure.UNAVAILABLE)
    # This test's own frame knows the string; everything below it must not.
    frames = caught.value.__traceback__
    assert frames is not None
    trace = traceback.TracebackException(type(caught.value), caught.value, frames.tb_next, capture_locals=True)
    assert "canary" not in "".join(trace.format())
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("content", [None, "", "  \n", b"\xff\xfe"])
async def test_a_missing_connection_string_is_named_by_its_file(tmp_path: Path, content: str | bytes | None) -> None:
    file = tmp_path / "dsn"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StoreError, match=str(file)) as caught:
        DsnFile(file).read()
    assert caught.value.failure is Failure.REFUSED
