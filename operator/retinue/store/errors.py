"""Errors of the store, told apart by what to do about them.

What asyncpg raises can hold a connection string in a frame or row values in its text. None of that leaves this layer:
`StoreError` is made of constant sentences and the SQLSTATE, and is never chained to its cause.
"""

import asyncio
import struct
from enum import StrEnum
from typing import Final

from asyncpg import exceptions


class Failure(StrEnum):
    """What a failed call means for the caller."""

    UNAVAILABLE = "unavailable"
    """Away, starting, overloaded, too slow: the same call can succeed later."""
    READ_ONLY = "read_only"
    """The server does not write (a standby after a failover): connections must be made anew."""
    FULL = "full"
    """No space: a smaller call may succeed, a later one will once somebody made room."""
    SCHEMA = "schema"
    """Tables or columns are missing: the database has not been migrated yet."""
    REFUSED = "refused"
    """User, password, database or rights are wrong: succeeds after somebody changed them."""
    POISON = "poison"
    """The values themselves are refused: the same call can never succeed."""
    UNKNOWN = "unknown"
    """Anything else; retried, because data must not be dropped for a reason nobody knows."""


class StoreError(Exception):
    """A call to Postgres failed. `code` is the SQLSTATE or the class of the cause; safe to log."""

    def __init__(self, failure: Failure, code: str, text: str) -> None:
        super().__init__(f"Postgres: {text} ({code})")
        self.failure = failure
        self.code = code

    @property
    def lasting(self) -> bool:
        """True if repeating the call can never help."""
        return self.failure is Failure.POISON


INVALID_DSN: Final = "the connection string is not valid: write postgresql://user:password@host:5432/database"
_MIGRATE: Final = "the schema is missing or older than this release: run `retinue db migrate up` (the setup Job does)"
_STATES: Final[dict[str, tuple[Failure, str]]] = {
    "25006": (Failure.READ_ONLY, "the server is read-only: check which server the connection string names"),
    "53100": (Failure.FULL, "the disk of the server is full: make room there"),
    "53200": (Failure.UNAVAILABLE, "the server is out of memory"),
    "53300": (Failure.UNAVAILABLE, "the server has no connection left: raise max_connections or use fewer clients"),
    "57P01": (Failure.UNAVAILABLE, "the server is shutting down"),
    "57P03": (Failure.UNAVAILABLE, "the server is starting or stopping"),
    "57014": (Failure.UNAVAILABLE, "a statement took longer than it may"),
    "55P03": (Failure.UNAVAILABLE, "a lock was not free in time"),
    "28P01": (Failure.REFUSED, "user or password refused: check the connection string"),
    "28000": (Failure.REFUSED, "user refused: check the connection string and pg_hba.conf"),
    "3D000": (Failure.REFUSED, "the database does not exist: create it or check the connection string"),
    "42501": (Failure.REFUSED, "the user lacks a right: make it the owner of the database"),
    "42P01": (Failure.SCHEMA, _MIGRATE),
    "42703": (Failure.SCHEMA, _MIGRATE),
    "3F000": (Failure.SCHEMA, _MIGRATE),
}
_CLASSES: Final[dict[str, tuple[Failure, str]]] = {
    "08": (Failure.UNAVAILABLE, "the connection broke"),
    "53": (Failure.UNAVAILABLE, "the server lacks a resource"),
    "57": (Failure.UNAVAILABLE, "the server ended the call"),
    "40": (Failure.UNAVAILABLE, "the transaction collided with another"),
    "28": (Failure.REFUSED, "user or password refused: check the connection string"),
    "22": (Failure.POISON, "a value is refused"),
    "23": (Failure.POISON, "a value breaks a rule of its table"),
    "54": (Failure.POISON, "a value is larger than the server can hold"),
}


def describe(cause: BaseException) -> StoreError:
    """The StoreError for anything a call may raise, without a word of the cause's own text."""
    if isinstance(cause, StoreError):
        return cause
    if isinstance(cause, exceptions.PostgresError):
        state = str(getattr(cause, "sqlstate", None) or "")
        failure, text = _STATES.get(state) or _CLASSES.get(state[:2]) or (Failure.UNKNOWN, "the call failed")
        return StoreError(failure, state or type(cause).__name__, text)
    code = type(cause).__name__
    if isinstance(cause, exceptions.ClientConfigurationError):
        return StoreError(Failure.REFUSED, code, INVALID_DSN)
    if isinstance(cause, TimeoutError | asyncio.CancelledError):
        return StoreError(Failure.UNAVAILABLE, code, "no answer in time")
    if isinstance(cause, OSError):
        return StoreError(Failure.UNAVAILABLE, code, "the server cannot be reached: check host and port")
    if isinstance(cause, exceptions.DataError | ValueError | TypeError | OverflowError | struct.error):
        return StoreError(Failure.POISON, code, "a value does not fit its column")
    if isinstance(cause, exceptions.InterfaceError | exceptions.InternalClientError):
        return StoreError(Failure.UNAVAILABLE, code, "the connection is gone")
    return StoreError(Failure.UNKNOWN, code, "the call failed")
