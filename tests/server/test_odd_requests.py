"""Invalid requests: each is refused with a clear status, and none causes a server error."""

import asyncio
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from server.settings import USUAL_RATES
from tests.server.test_users_api import login
from tests.support.accounts import somebody
from tests.support.serving import serving


@pytest.mark.parametrize("path", ["/v1/conversations", "/v1/knowledge-bases"])
async def test_invalid_cursors_and_ids_cause_no_server_error(path: str, tmp_path: Path, database: str) -> None:
    import base64

    async with serving(tmp_path, database_url=database) as served:
        ann, _ = await login(served)
        made = (await ann.post(path, {"name": "x", "title": "x"})).json()["id"]
        for place in ("1.a\0b", "99999999999999999999.a", "x.y", "-1.a"):
            cursor = base64.urlsafe_b64encode(place.encode()).decode()
            assert (await ann.get(f"{path}?cursor={cursor}")).status == 400
        far = base64.urlsafe_b64encode(b"9999999999999.").decode()
        below = {"/v1/conversations": "messages", "/v1/knowledge-bases": "documents"}[path]
        assert (await ann.get(f"{path}/{made}/{below}?cursor={far}")).status == 200
        for name in ("a%00b", "%ff", "x" * 64, "..%2f..%2fetc"):
            assert (await ann.get(f"{path}/{name}")).status == 404
            assert (await ann.get(f"{path}/{made}/jobs/{name}")).status == 404


async def test_invalid_bodies_and_addresses_cause_no_server_error(tmp_path: Path, database: str) -> None:
    async with serving(tmp_path, database_url=database) as served:
        ann, _ = await login(served)
        base = await ann.base()
        assert (await ann.post("/api/rag/kb/create", b'{"kb_name": "a\\u0000b"}')).status == 400
        assert (await ann.post("/v1/conversations", b'{"title": "\\ud800"}')).status == 400
        assert (await ann.post("/v1/conversations", {"api_key": "sk-\nfoo", "model": "gpt-4o"})).status == 400
        assert (await ann.post("/v1/conversations", b"[" * 100_000)).status == 400
        for url in ("https://a..b/v1", "https://.example", f"https://{'a' * 64}.example", "https://127.0.0.1/v1"):
            assert (await ann.post("/v1/conversations", {"base_url": url})).error["code"] == "address_refused", url
        for kind in ("multipart/form-data; boundary=limit; charset=undefined", "multipart/form-data", "text/plain"):
            reply = await ann.post("/api/rag/doc/upload", b"--limit\r\n\r\nx", **{"content-type": kind})
            assert reply.status in (400, 415), kind
        assert (await ann.get(f"/api/rag/doc/list?kb_id={base}")).json()["docs"] == []


def _deep(depth: int) -> bytes:
    return b'{"title": ' + b"[" * depth + b"]" * depth + b"}"


_BODIES = [
    _deep(100_000), b'{"title": NaN}', b'{"title": 1e400}', b'{"title": "a", "title": 7}', b'{"title": "\\u0000"}',
    b'{"title": "\\udfff"}', b'{"title": "' + b"x" * 900_000 + b'"}', b"\xff\xfe", b"", b"null", b"[]", b'"x"',
    b'{"title": ' + b"9" * 5000 + b"}", b'{"title": {"$ne": 1}}',
]  # fmt: skip


async def test_malformed_bodies_are_refused_quickly(tmp_path: Path) -> None:
    async with serving(tmp_path, rates=dict.fromkeys(USUAL_RATES, "")) as served:
        ann, _ = await login(served)
        chat = (await ann.post("/v1/conversations", {})).json()["id"]
        for body in _BODIES:
            for path in (
                "/v1/conversations",
                "/api/conversations/create",
                "/v1/keys",
                "/v1/sessions",
                "/api/users/login",
            ):
                began = asyncio.get_running_loop().time()
                reply = await ann.post(path, body)
                assert 400 <= reply.status < 500, (path, reply.status, body[:40])
                assert asyncio.get_running_loop().time() - began < 10
            assert (await ann.post(f"/v1/conversations/{chat}/messages", body)).status == 400, body[:40]


def _multipart(*parts: bytes) -> bytes:
    return b"".join(b"--limit\r\n" + part + b"\r\n" for part in parts) + b"--limit--\r\n"


_FILE = b'content-disposition: form-data; name="file"; filename="a.md"\r\n\r\n# A\n\nText.'
_FIELD = b'content-disposition: form-data; name="x"\r\n\r\ny'
_FORMS = [
    (_multipart(*[_FIELD] * 1001, _FILE), "multipart/form-data; boundary=limit"),
    (_multipart(b"x: y\r\n" * 100_000 + _FILE), "multipart/form-data; boundary=limit"),
    (_multipart(*[_FILE] * 50), "multipart/form-data; boundary=limit"),
    (_multipart(_FIELD[:-1] + b"y" * 100_000), "multipart/form-data; boundary=limit"),
    (b"x" * 1_000_000 + _multipart(_FILE), "multipart/form-data; boundary=limit"),
    (_multipart(_FILE), "multipart/form-data"),
    (_multipart(_FIELD, _FILE), "multipart/form-data; boundary=limit; charset=undefined"),
    (_multipart(_FILE), f"multipart/form-data; boundary={'x' * 10_000}"),
    (_multipart(_FILE)[:-30], "multipart/form-data; boundary=limit"),
    (b"", "multipart/form-data; boundary=limit"),
    (b'{"file": "x"}', "application/json"),
]


async def test_malformed_forms_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        ann, _ = await login(served)
        base = await ann.base()
        for body, kind in _FORMS:
            began = asyncio.get_running_loop().time()
            reply = await ann.post(f"/v1/knowledge-bases/{base}/documents", body, **{"content-type": kind})
            assert reply.status in (400, 415), (kind[:60], reply.body)
            assert asyncio.get_running_loop().time() - began < 2
        assert served.state.uploading.total() == 0
        assert (await ann.get(f"/v1/knowledge-bases/{base}/documents")).json()["data"] == []


async def test_a_file_that_is_too_large_is_refused_while_it_uploads(tmp_path: Path) -> None:
    async with serving(tmp_path, upload_limit_mb=1) as served:
        ann = await somebody(served)
        base = await ann.base()
        assert (await ann.upload(base, "a.txt", b"word " * 300_000)).status == 413
        head = {**ann.headers, "content-type": "multipart/form-data; boundary=limit", "transfer-encoding": "chunked"}
        connection = await served.connect()
        lines = served.request("/api/rag/doc/upload", b"", head).replace(b"content-length: 0\r\n", b"")
        await connection.send(lines)
        sent = 0
        start = b'--limit\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
        piece = start + b"word " * 20_000
        answered = asyncio.create_task(connection.head())
        with suppress(ConnectionError):
            while sent < 5_000_000 and not answered.done():
                await connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                sent += len(piece)
                await asyncio.sleep(0.005)
        assert (await answered)[0] == 413 and sent < 2_000_000, "the refusal must come before the rest is sent"


_QUERIES = ['"', "' OR 1=1 --", "NEAR(a b)", "a* AND", "%_%", "{x}", "\\", "🦓" * 50, "x" * 3900, "的" * 3000, "\u202e"]


async def test_odd_questions_are_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        ann = await somebody(served)
        base = await ann.base()
        await ann.upload(base, "a.md", b"# Zebras\n\nThey are striped.")
        for query in _QUERIES:
            reply = await ann.post("/api/rag/retrieve", {"kb_id": base, "query": query, "top_k": 10**9})
            assert reply.status == 200 and reply.json()["success"], reply.body
            assert (await ann.get("/v1/conversations?search=" + quote(query[:250]))).status == 200
