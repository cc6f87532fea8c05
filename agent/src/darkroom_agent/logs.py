"""Logs as JSON lines on standard output. No prompt, content or URL of an input goes into a log."""

import json
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
_context: ContextVar[Mapping[str, Any]] = ContextVar("log_context", default=MappingProxyType({}))


def configure(level: str, runtime: str) -> None:
    """Log everything of the agent's from ``level`` on; of libraries, which would log bodies and URLs, warnings only."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(runtime))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(__package__).setLevel(level)


@contextmanager
def log_context(**fields: Any) -> Iterator[None]:
    """Add fields to every line that this thread logs inside the context."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: the event, the runtime, the context, and what ``extra`` has."""

    def __init__(self, runtime: str) -> None:
        super().__init__()
        self._runtime = runtime

    def format(self, record: logging.LogRecord) -> str:
        """Format a record. Of an exception, its type and place: its text may quote a job's content."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "event": record.getMessage(),
            "logger": record.name,
            "runtime": self._runtime,
            **_context.get(),
            **{key: value for key, value in record.__dict__.items() if key not in _STANDARD and value is not None},
        }
        if record.exc_info and record.exc_info[0]:
            line["exception"] = record.exc_info[0].__qualname__
            line["stack"] = "".join(traceback.format_tb(record.exc_info[2]))
        return json.dumps(line, default=str)
