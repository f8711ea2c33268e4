"""The log: each event is one line without secrets, and failing requests of strangers do not fill it."""

import asyncio
import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.logs import JsonFormatter, LineFormatter
from tests.support.server_process import Server
from tests.support.serving import CHAT
from tests.support.upstream import upstream

FORGED = "x\r\n2026-01-01 00:00:00,000 INFO server: a forged line \u001b[31m"


@given(st.text(), st.text())
def test_an_event_is_one_line_without_control_characters(message: str, value: str) -> None:
    record = logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "%s", "args": (message,), "field": value})
    line = LineFormatter("%(message)s").format(record)
    assert len(line.splitlines()) <= 1
    assert not [character for character in line if ord(character) < 32 or 127 <= ord(character) < 160]


@pytest.mark.parametrize(
    ("said", "secret"),
    [
        ("authorization: Bearer abcdef123456", "abcdef123456"),
        ("{'api_key': 'abcdef123456'}", "abcdef123456"),
        ("the key sk-proj-abcdef123456 is wrong", "abcdef123456"),
        ("dg_abcdefghijkl was refused", "abcdefghijkl"),
        ("token eyJhbGciOiJ9.eyJzdWIi.c2lnbmF0dXJl", "c2lnbmF0dXJl"),
    ],
)
def test_secrets_are_removed_from_a_log_line(said: str, secret: str) -> None:
    for record in ({"msg": said}, {"msg": "it failed", "reason": said}):
        assert secret not in LineFormatter("%(message)s").format(logging.makeLogRecord({"name": "n", **record}))


@given(st.text(), st.text())
def test_a_json_log_has_one_object_in_each_line(message: str, value: str) -> None:
    fields = {"name": "n", "levelname": "INFO", "msg": "%s", "args": (message,), "parts": {"read": 0.4}, "said": value}
    line = JsonFormatter().format(logging.makeLogRecord(fields))
    found = json.loads(line)
    assert "\n" not in line and found["parts"] == {"read": 0.4} and found["level"] == "INFO"
    assert {"time", "logger", "message", "said"} <= set(found)


def test_secrets_are_removed_from_a_json_log() -> None:
    record = logging.makeLogRecord({"name": "n", "msg": "it failed", "asked": {"key": ["Bearer abcdef123456"]}})
    assert "abcdef123456" not in JsonFormatter().format(record)


async def test_ten_thousand_failing_requests_do_not_fill_the_log(tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "log"
    data.mkdir()
    json_forged = FORGED.encode("unicode_escape").replace(b"\\x", b"\\u00")
    failing = [
        (CHAT, b"not json", ""),
        (CHAT, b'{"model": "%b", "messages": []}' % json_forged, ""),
        ("/nope%0d%0aforged%1b[31m", b"{}", "agent\t[31m"),
        ("/api/chat/%0aforged", b"{}", ""),
        ("/v1/conversations", b"{}", "Bearer \t forged"),
    ]
    requests = [
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nuser-agent: {agent}\r\n"
        f"authorization: {agent}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        + body
        for path, body, agent in failing
    ]
    async with upstream() as up:
        server = Server(data, up.url, errors=log)
        await server.start()
        before = lines_of(log)

        async def hammer() -> set[int]:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            statuses = set()
            for at in range(1000):
                writer.write(requests[at % len(requests)])
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
                statuses.add(int(head.split(b" ")[1]))
            writer.close()
            return statuses

        no_http = (b"GARBAGE\r\n\r\n", b"\x16\x03\x01\x02\r\n\r\n", b"POST / HTTP/1.1\r\nforged header\r\n\r\n")
        for garbage in no_http * 20:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(garbage)
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
            writer.close()
        statuses = set().union(*await asyncio.gather(*(hammer() for _ in range(10))))
        assert statuses <= {400, 401, 404, 405, 422}, statuses
        await server.kill()
    assert lines_of(log) - before <= 500 and b"forged" not in log.read_bytes()


def lines_of(log: Path) -> int:
    """Return the number of lines."""
    return len(log.read_bytes().splitlines())
