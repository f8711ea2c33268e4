"""Logging: one line an event, values as fields, secrets taken out. What a caller said is never logged."""

import logging
import re
import sys

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_SECRET = re.compile(
    r"(?i)(bearer\s+|basic\s+|api[_-]?key[\"'=:\s]+)[^\s\"',}]+|\b(?:sk|dg|dr)[-_][A-Za-z0-9_.-]{8,}|\beyJ[\w-]+\.[\w-]+\.[\w-]*"
)

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What ends a line, or is an order to a terminal."""

_TALKATIVE = (
    "httpx", "httpx2", "openai", "urllib3", "aiohttp.access", "asyncio", "aiosqlite",
)  # fmt: skip
"""Libraries that tell at `debug` what passes through them."""


class LineFormatter(logging.Formatter):
    """`time level logger: message field=value`, on one line whatever stands in it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        fields = " ".join(f"{key}={value}" for key, value in vars(record).items() if key not in _STANDARD)
        line = f"{super().format(record)} {fields}".rstrip()
        return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), redact(line))


def redact(text: str) -> str:
    """The text without keys and tokens."""
    return _SECRET.sub(lambda match: (match.group(1) or "") + "[secret]", text)


def _no_scanner(record: logging.LogRecord) -> bool:
    """Whoever knocks at every port would write a line each time."""
    return record.msg != "Invalid HTTP request received."


def set_up_logging(level: str) -> None:
    """Send every log of the process through the one formatter to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = (
            name != "uvicorn.access"
        )  # one line a turn is enough, and paths may hold what a host put there
    # Statements with what callers said, steps of a migration, instruction sets that were not found: nobody's to read.
    for name in ("alembic", "faiss.loader", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_no_scanner)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # warns of every form that a stranger breaks
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.INFO, getattr(logging, level.upper())))
