"""One JSON line per log record, for our code, kopf, uvicorn and every other library of the process.

Prompts, completions, keys and DSNs must never get here (architecture rule 8), so exceptions are reduced to their type
and the places they passed, without their text and without source lines; callers bind what may be said as fields.
"""

import logging
import sys
import time
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Final, TextIO

import structlog

KEY_FIELDS: Final = ("time", "level", "role", "logger", "event", "kind", "ns", "name", "uid", "reconcile_id")
"""Order of the fields that most lines have; all others follow."""
QUIET: Final = {
    "kopf": logging.WARNING,
    "kopf._core.reactor.running": logging.ERROR,
    "aiohttp.access": logging.CRITICAL,
    "uvicorn.access": logging.CRITICAL,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "asyncio": logging.WARNING,
    "alembic": logging.WARNING,
}
"""Levels of libraries that say too much, or whole request lines."""
REPEAT_SECONDS: Final = 30.0

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def configure(role: str, level: str = "INFO", *, stream: TextIO | None = None) -> None:
    """Makes every log record of the process one JSON line on `stream` (default: standard error).

    `role` is the command (operator, agent, gateway, setup). Raises ValueError: unknown level. Call it once, first.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"log level {level!r} is not one of DEBUG, INFO, WARNING, ERROR, CRITICAL")
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _Role(role),
        _reduce_exception,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(Repeated())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _order,
                structlog.processors.JSONRenderer(ensure_ascii=False, default=_unknown),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name, quiet in QUIET.items():
        logging.getLogger(name).setLevel(max(quiet, number))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        # uvicorn brings handlers of its own unless it is started with log_config=None.
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.captureWarnings(True)


class Repeated(logging.Filter):
    """Lets the same complaint of kopf through once in 30 s: an API server that is away makes four a round and kind."""

    def __init__(self, seconds: float = REPEAT_SECONDS) -> None:
        super().__init__()
        self._seconds = seconds
        self._said: dict[tuple[str, int, str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """False drops the record. The place in the source stands for the message, which holds a varying URL."""
        if record.levelno < logging.WARNING or not record.name.startswith("kopf"):
            return True
        place = (record.name, record.levelno, record.pathname, record.lineno)
        now = time.monotonic()
        if now - self._said.get(place, float("-inf")) < self._seconds:
            return False
        self._said[place] = now
        return True


class _Role:
    def __init__(self, role: str) -> None:
        self._role = role

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["role"] = self._role
        return event


def _reduce_exception(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if event.get("logger") == "asyncio":
        # The further lines are reprs of tasks and futures, with the text of their exceptions.
        event["event"] = str(event.get("event", "")).partition("\n")[0]
    found = event.pop("exc_info", None)
    event.pop("stack_info", None)
    info = _exc_info(found)
    if info is not None:
        event["error"] = info[0].__name__
        event["at"] = frames_of(info[1])
        summary = getattr(info[1], "summary", None)
        if isinstance(summary, str):
            event.setdefault("cause", summary)
        elif isinstance(info[1], OSError):
            event.setdefault("cause", info[1].strerror or "")
    return event


def _exc_info(found: Any) -> _ExcInfo | None:
    if isinstance(found, BaseException):
        return type(found), found, found.__traceback__
    if isinstance(found, tuple) and len(found) == 3 and isinstance(found[1], BaseException):
        return found[0], found[1], found[2]
    if found is True:
        kind, value, trace = sys.exc_info()
        return (kind, value, trace) if kind is not None and value is not None else None
    return None


def frames_of(error: BaseException) -> list[str]:
    """`file:line function` of every frame that the error passed, without source text or values."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return places


def _order(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    first = {name: event[name] for name in KEY_FIELDS if name in event}
    return {**first, **{name: value for name, value in event.items() if name not in first}}


def _unknown(value: Any) -> str:
    """Objects are named by type only: their repr may hold a body."""
    return f"<{type(value).__name__}>"
