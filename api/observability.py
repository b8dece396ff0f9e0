"""What operators read: JSON lines, one for each request, and nothing personal in any of them.

The log keeps only the fields named in ``FIELDS``; whatever else a caller adds is dropped, so that a
phone number, a token, a query string or a caller's words cannot slip in. A route stands as its
template (``/v1/recordings/{recording_id}``), a person as ``act_`` pseudonym. Of a foreign exception
the log keeps type and places in the code, never its message, which may quote what was sent.

A line that cannot be written (the disk is full, the reader is gone) is lost and counted: no request
fails for it. The ledger, which must not lose anything, is elsewhere.

``docs/logs.md`` shows a sample of each line.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, ClassVar, Final, Self, TextIO

import structlog

from core.errors import OublietteError

FIELDS: Final = frozenset(
    {
        "event", "level", "at", "request_id", "method", "route", "status", "duration_ms",
        "bytes_received", "bytes_sent", "actor_id", "code", "facts", "error_type", "places",
        "thread", "job", "logger", "version", "mode", "setting", "listen_host", "listen_port",
        "count", "cut", "erasure_id", "recording_id", "campaign_id", "epoch", "checks", "signal",
    }
)  # fmt: skip
OUR_LOGGERS: Final = ("oubliette", "core", "keys", "vault", "retention")
_HARMLESS: Final = re.compile(r"(?!.*[0-9]{7})[A-Za-z0-9_:./ -]{0,120}")  # no number to call
_PLACES_MAX: Final = 12

request_id: Final[ContextVar[str]] = ContextVar("request_id", default="")


def configure_logging(stream: TextIO | None = None) -> None:
    """Send our own lines and those of every library to one stream (standard error), as JSON."""
    configure_lines(stream or sys.stderr)
    root = logging.getLogger()
    root.handlers = [ForeignLines()]
    root.setLevel(logging.WARNING)
    for name in OUR_LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "alembic", "apscheduler"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.WARNING)


def configure_lines(stream: TextIO) -> None:
    """Send our own lines to a stream."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            add_request_id,
            keep_known_fields,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=LineLogger(stream),
        cache_logger_on_first_use=False,
    )


class LineLogger:
    """Writes lines to a stream, each at once; several threads may.

    Attributes:
        lost: how many lines no process of this run could write.
    """

    lost: ClassVar[int] = 0
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, stream: TextIO) -> None:
        self._stream: Final = stream

    def __call__(self, *_: object) -> Self:
        """Be what structlog makes loggers with, and the logger."""
        return self

    def msg(self, line: str) -> None:
        """Write a line, or lose it."""
        with self._guard:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # no room, no reader; or closed
                LineLogger.lost += 1

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


def log() -> Any:
    """Return the logger; a line is an event in kebab-case and fields out of ``FIELDS``."""
    return structlog.get_logger()


def add_request_id(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put the id of the request under way into a line."""
    if found := request_id.get():
        line.setdefault("request_id", found)
    return line


def keep_known_fields(
    _: object, __: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Drop every field that ``FIELDS`` does not name."""
    return {name: value for name, value in line.items() if name in FIELDS}


def fault_fields(error: BaseException) -> dict[str, object]:
    """Describe an exception by what cannot be personal: its type, our codes, places in the code."""
    fields: dict[str, object] = {"error_type": type(error).__name__, "places": _places(error)}
    if isinstance(error, OublietteError):
        fields |= {
            "code": error.code,
            "facts": {name: str(one) for name, one in error.facts.items()},
        }
    return fields


def _places(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)[-_PLACES_MAX:]
    found = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    cause = error.__cause__
    return found if cause is None else [*_places(cause), type(cause).__name__, *found]


class ForeignLines(logging.Handler):
    """Turns lines of libraries into ours, without the values they were given.

    Packages below ``api`` log through ``logging`` under ``oubliette.*`` and name their fields in
    ``extra``; those that ``FIELDS`` knows are kept, and the message is written out when all its
    arguments are numbers, ids, codes or errors of ours.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Log the message's template; its arguments and an exception's message stay out."""
        fields: dict[str, object] = {"logger": record.name}
        ours = record.name.partition(".")[0] in OUR_LOGGERS
        if ours:
            fields |= {name: value for name, value in vars(record).items() if name in FIELDS}
        if record.exc_info and record.exc_info[1]:
            fields |= fault_fields(record.exc_info[1])
        template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        if ours and record.args and all(map(_is_harmless, _arguments(record))):
            template = record.getMessage()
        level = min(max(record.levelno // 10 * 10, logging.INFO), logging.CRITICAL)
        log().log(level, template[:200], **fields)


def _arguments(record: logging.LogRecord) -> list[object]:
    return list(record.args) if isinstance(record.args, tuple) else [record.args]


def _is_harmless(value: object) -> bool:
    """Tell whether an argument is a number, an id, a code, or an error of ours."""
    if isinstance(value, int | float | OublietteError):
        return True
    return isinstance(value, str) and bool(_HARMLESS.fullmatch(value))
