"""A million mutated inputs for each reader of untrusted bytes: it reads them or raises one of its own errors."""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message

from dialgraph.models.relay.sse import EventReader, EventTooLargeError
from dialgraph.users.accounts.tokens import Claims, TokenError, Tokens
from knowledge.document import Piece
from knowledge.embedders.embed import DIMENSION
from knowledge.parse.errors import ParseError
from knowledge.parse.frames import LENGTHS, read_frame, write_kind, write_pieces
from knowledge.parse.sniff import kind_of
from knowledge.parse.texts import text_blocks
from knowledge.passages.analyse import AnalysedPiece
from knowledge.passages.chunk import pieces
from knowledge.search.vectors import SegmentFile, build
from server.errors import ApiError
from server.http.json_body import json_object
from server.protocols.chat_completions.request import read_request
from tests.support.accounts import form

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

_SPECIAL = [
    b"\0", b"\r", b"\n", b"\r\n\r\n", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b'"', b"\\", b"{", b"}", b"[" * 50,
    b"--", b"=", b"data:", b"1e999", b"-1", b"9" * 30, b"null", b"true", b"\xe2\x80\xa8", b";", b".", b"\x80\x04",
    b"<" * 20, b"&#x0;",
]  # fmt: skip


def mutated(data: bytes, dice: random.Random) -> bytes:
    """Return the data with one to four random changes."""
    wounded = bytearray(data)
    for _ in range(dice.randrange(1, 5)):
        at = dice.randrange(len(wounded) + 1)
        match dice.randrange(5):
            case 0:
                del wounded[at : at + dice.randrange(1, 9)]
            case 1:
                wounded[at:at] = dice.choice(_SPECIAL)
            case 2 if at < len(wounded):
                wounded[at] ^= 1 << dice.randrange(8)
            case 3:
                wounded[at:at] = wounded[dice.randrange(len(wounded) + 1) :][: dice.randrange(20)]
            case _:
                del wounded[at:]
    return bytes(wounded)


def fuzz(runs: int, seeds: Sequence[bytes], read: Callable[[bytes], object], *known: type[Exception]) -> int:
    """Read this many mutated inputs. Fail on any unknown exception. Return how many were read without an error."""
    dice = random.Random(runs)
    well = 0
    for at in range(runs):
        data = mutated(seeds[at % len(seeds)], dice)
        try:
            read(data)
            well += 1
        except known:
            pass
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} for {data!r}") from error
    return well


def test_event_streams_are_read_alike_in_one_piece_or_many() -> None:
    dice = random.Random(3)
    seeds = [
        b'event: x\ndata: {"a":"b"}\n\ndata: [DONE]\n\n',
        b": ka\r\n\r\ndata:a\r\ndata: b\r\rdata",
        b"\xef\xbb\xbfdata: 1\n\n",
    ]

    def read(data: bytes) -> None:
        whole = EventReader(64)
        parts = EventReader(64)
        cuts = sorted(dice.randrange(len(data) + 1) for _ in range(3))
        pieces_of_it = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        assert [*whole.feed(data), *whole.end()] == [
            event for piece in [*pieces_of_it, None] for event in (parts.end() if piece is None else parts.feed(piece))
        ], data

    assert fuzz(300_000, seeds, read, EventTooLargeError) > 100_000


def test_no_mutated_token_is_accepted() -> None:
    tokens = Tokens(b"x" * 48)
    good = tokens.issue(Claims("user", "session"), 3600)

    def read(data: bytes) -> None:
        said = data.decode("latin-1")
        claims = tokens.read(said)
        assert claims == Claims("user", "session")
        assert said.split(".")[:2] == good.split(".")[:2], "the signature was accepted for a different text"

    assert fuzz(200_000, [good.encode()], read, TokenError) < 20_000


def test_mutated_requests_are_read_or_refused() -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
    whole = {
        "messages": [{"role": "system", "content": "x"}, message], "stream": True, "model": "rag", "n": 1, "tools": [],
        "stream_options": {"include_usage": True}, "metadata": {"call_id": "c"}, "user": "u", "temperature": 0.5,
    }  # fmt: skip
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    tool = {
        "messages": [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "1", "content": "x"}]
    }
    seeds = [json.dumps(body).encode() for body in (whole, tool)]
    assert fuzz(300_000, seeds, lambda data: read_request(json_object(data), {}, {}), ApiError) > 10_000


# If a form breaks off, Starlette does not close its file; the garbage collector does.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_mutated_forms_are_read_or_refused() -> None:
    body, kind = form({"kb_id": "x"}, "a.md", b"# Zebras\n\nThey are striped.")
    runner = asyncio.Runner()

    async def parsed(data: bytes) -> None:
        said: list[Message] = [{"type": "http.request", "body": data, "more_body": False}]

        async def receive() -> Message:
            return said.pop()

        scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())], "path": "/"}
        found = await Request(scope, receive).form(max_files=1, max_fields=16)
        await found.close()

    # `server.api.uploads.received` also handles these: unknown names of charsets, and bytes that cannot be decoded.
    known = (HTTPException, MultiPartException, UnicodeError, LookupError)
    assert fuzz(60_000, [body], lambda data: runner.run(parsed(data)), *known) > 1_000
    runner.close()


def test_mutated_texts_are_parsed_or_refused() -> None:
    seeds = {
        "a.md": b"# Head\n\nText *x* [a](b).\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
        "a.html": b"<html><head><title>T</title></head><body><h1>H</h1><p>x &amp; y</p><table><tr><td>1</table>",
        "a.csv": b'name,price\n"a ""b""",1\nc;d,2\n',
        "a.txt": "Zebras 斑马 are striped.\nÄ".encode(),
    }

    for name, seed in seeds.items():

        def read(data: bytes, name: str = name) -> None:
            list(pieces(text_blocks(data, kind_of(data, name))))

        assert fuzz(25_000, [seed], read, ParseError) > 5_000


def test_mutated_frames_of_the_parser_process_are_read_or_refused() -> None:
    out = BytesIO()
    piece = AnalysedPiece(
        Piece("text", "head", 1, 0, 4), np.array([1, 2], np.uint32), ("word",), np.zeros(DIMENSION, np.float32)
    )
    write_pieces(out, [piece])
    write_kind(out, "docx", 3)
    data = out.getvalue()

    def read(said: bytes) -> None:
        stream = BytesIO(said)
        while len(head := stream.read(LENGTHS.size)) == LENGTHS.size:
            read_frame(*(stream.read(length) for length in LENGTHS.unpack(head)))

    assert fuzz(30_000, [data], read, ValueError, KeyError, TypeError) > 100


def test_mutated_index_manifests_never_raise(tmp_path: Path) -> None:
    file = SegmentFile(tmp_path)
    file.write(build(np.arange(5), np.eye(5, 8, dtype=np.float32)), "hashing")
    manifest = tmp_path / "vectors.json"
    whole = manifest.read_bytes()
    assert file.read("hashing", 8) is not None

    def read(data: bytes) -> None:
        manifest.write_bytes(data)
        file.read("hashing", 8)

    assert fuzz(10_000, [whole], read) == 10_000
