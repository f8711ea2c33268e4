"""Logging: one line for each event, values as fields, secrets removed. What a caller said is never logged."""

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from dialgraph.privacy.redaction import Redactor, new_key
from dialgraph.shadowing import PACKAGES

Form = Literal["text", "json"]
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_redactor = Redactor(new_key())

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters that end a line or control a terminal."""

_TALKATIVE = (
    "httpx", "httpx2", "openai", "urllib3", "aiohttp.access", "asyncio", "aiosqlite",
)  # fmt: skip
"""Libraries that log the content of requests at `debug`."""


class LineFormatter(logging.Formatter):
    """Formats a record as `time level logger: message field=value`, always on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        fields = " ".join(f"{key}={_shown(value)}" for key, value in vars(record).items() if key not in _STANDARD)
        line = f"{super().format(record)} {fields}".rstrip()
        return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), redact(line))


def _shown(value: object) -> object:
    """Return a value as the line shows it: a table as `a:1,b:2`."""
    return ",".join(f"{key}:{one}" for key, one in value.items()) if isinstance(value, dict) else value


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: `time`, `level`, `logger`, `message` and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        data = {
            "time": time,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **fields,
        }
        if record.exc_info:
            data["error"] = self.formatException(record.exc_info)
        return orjson.dumps(_clean(data), default=str).decode()


def _clean(value: Any) -> Any:
    """Return JSON data without keys and tokens."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {str(key): _clean(one) for key, one in value.items()}
    return [_clean(one) for one in value] if isinstance(value, list | tuple) else value


def redact(text: str) -> str:
    """Return the text with stand-ins for private values and keys."""
    return _redactor.text(text)


def use_redactor(redactor: Redactor) -> None:
    """Use the stand-ins of the server's data folder, so that logs and records name the same things alike."""
    global _redactor
    _redactor = redactor


def _no_scanner(record: logging.LogRecord) -> bool:
    """Drop the line that uvicorn writes for every port scan."""
    return record.msg != "Invalid HTTP request received."


def _redacted(record: logging.LogRecord) -> bool:
    """Remove secrets from a record of a library, whose message is a text or, with structlog, a dictionary."""
    if isinstance(record.msg, dict):
        record.msg = {key: redact(value) if isinstance(value, str) else value for key, value in record.msg.items()}
    else:
        record.msg, record.args = redact(record.getMessage()), ()
    return True


def set_up_logging(level: str, form: Form = "text") -> None:
    """Send every log of the process to standard error, in one format."""
    root = logging.getLogger()
    root.handlers[:] = [_handler(form)]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = (
            name != "uvicorn.access"
        )  # a turn already logs one line, and paths may contain private values that a host put there
    _keep_quiet(level)


def set_up_logging_in_studio(level: str) -> None:
    """Send the logs of our packages to standard error. `langgraph dev` keeps its own format for everything else."""
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.handlers[:] = [_handler()]
        logger.propagate = False
        logger.setLevel(level.upper())
    for handler in logging.getLogger().handlers:
        handler.addFilter(_redacted)
    _keep_quiet(level)


def _handler(form: Form = "text") -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    line = LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else line)
    return handler


def _keep_quiet(level: str) -> None:
    # These would log SQL statements with what callers said, the steps of a migration, and missing instruction sets.
    for name in ("alembic", "faiss.loader", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_no_scanner)
    logging.getLogger("python_multipart").setLevel(
        logging.ERROR
    )  # warns about every malformed form that a stranger sends
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.INFO, getattr(logging, level.upper())))
