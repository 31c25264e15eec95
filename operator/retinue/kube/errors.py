"""What can go wrong with an API server call, by what the caller does next."""

import re

_VALUE = re.compile(
    r'((?:Invalid|Unsupported|Duplicate) value|Not found|Too long|Too many): ("(?:[^"\\]|\\.)*"|[{\[].*[}\]])'
)


def without_values(message: str) -> str:
    """The message of an Invalid answer without the refused values: they may be prompts (architecture rule 8)."""
    return _VALUE.sub(r"\1", message)


class ApiError(Exception):
    """A call failed. `status` is the HTTP status (0: no answer), `reason` and `message` are the server's.

    `message` never holds refused values; it may be shown in a condition.
    """

    def __init__(self, status: int, reason: str, message: str, *, retry_after: float | None = None) -> None:
        message = without_values(message)
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after

    @property
    def summary(self) -> str:
        """One short line for logs."""
        return str(self)[:500]


class NotFound(ApiError):
    """404: the object or the kind does not exist."""


class Conflict(ApiError):
    """409: the object changed since it was read; read again and decide again."""


class AlreadyExists(Conflict):
    """409 on create: somebody made it first."""


class Invalid(ApiError):
    """400 or 422: the API server refuses this body; retrying the same is useless."""


class Forbidden(ApiError):
    """401 or 403: RBAC, admission (quota, Pod Security) or an expired token."""


class Gone(ApiError):
    """410: the resourceVersion or continue token is too old; list again."""


class TooManyRequests(ApiError):
    """429: `retry_after` says how long to stay away."""


class Unavailable(ApiError):
    """5xx, time-out or no connection: the server is away; retry with back-off."""
