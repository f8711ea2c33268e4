"""Unique keys, passwords and words (canaries), and a search for them in every place where they must not be."""

import json
import re
from pathlib import Path
from typing import Any

from tests.support.accounts import form
from tests.support.redis_server import redis_server
from tests.support.server_process import Server
from tests.support.upstream import Action, says, upstream

PASSWORD = "canary-password-7f3a91"
UPSTREAM_KEY = "sk-canary-upstream-key-5521"
OPERATOR_KEY = "canary-operator-key-90817263"
WORDS = "canaryquestion4711"
ANSWER = "canaryanswer4712"
DOCUMENT = "canarydocument4713"
LEAK = "canary-upstream-says-4714"
ENCRYPTION_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
TOKEN_SECRET = "canary-token-signing-key-0123456789-abcdefgh"


class Client:
    """A client that remembers every body that it receives."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.bodies: list[tuple[str, bytes]] = []

    async def __call__(
        self, method: str, path: str, body: Any = None, token: str = OPERATOR_KEY, kind: str = "application/json"
    ) -> Any:
        """Send one request. Return its body, parsed if it is JSON."""
        status, data = await self._server.ask(method, path, body, token, kind)
        self.bodies.append((f"{method} {path} {status}", data))
        try:
            return json.loads(data)
        except ValueError:
            return data


async def live(client: Client) -> list[str]:
    """Make every kind of request once, valid and invalid. Return the secrets that the server issued."""
    credentials = {"name": "ann", "password": PASSWORD}
    await client("POST", "/v1/users", credentials)
    session = await client("POST", "/v1/sessions", credentials)
    await client("POST", "/v1/sessions", {"name": "ann", "password": PASSWORD + "x"})
    token = session["access_token"]
    made = await client("POST", "/v1/keys", {"name": "bot"}, token)
    chat = await client("POST", "/v1/conversations", {"api_key": UPSTREAM_KEY, "model": "gpt-x", "title": WORDS}, token)
    messages = f"/v1/conversations/{chat['id']}/messages"
    for content in (WORDS, f"{WORDS} again", f"{WORDS} fails"):
        await client("POST", messages, {"content": content}, token)
    number = await client(
        "POST", "/api/conversations/create", {"title": WORDS, "model": "gpt-x", "api_key": UPSTREAM_KEY}, token
    )
    await client("POST", f"/api/chat/{number['conversation_id']}", {"message": WORDS}, token)
    base = (await client("POST", "/v1/knowledge-bases", {"name": WORDS}, token))["id"]
    file, kind = form({}, f"{DOCUMENT}.md", f"# {DOCUMENT}\n\nIt tells of {DOCUMENT}.".encode())
    job = await client("POST", f"/v1/knowledge-bases/{base}/documents", file, token, kind)
    await client("GET", f"/v1/knowledge-bases/{base}/jobs/{job['id']}/events", None, token)
    await client("POST", f"/v1/knowledge-bases/{base}/search", {"query": DOCUMENT}, token)
    await client("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": WORDS}]}, made["key"])
    await client(
        "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": WORDS}], "n": 2}, made["key"]
    )
    await client("POST", "/v1/conversations", {"base_url": f"https://{UPSTREAM_KEY}:x@127.0.0.1/"}, token)
    await client("POST", "/v1/conversations", {"title": 7, "api_key": UPSTREAM_KEY}, token)
    await client("GET", f"/v1/conversations/{UPSTREAM_KEY}", None, token)
    await client("GET", "/v1/conversations", None, f"{token}x")
    await client("GET", "/v1/conversations", None, UPSTREAM_KEY)
    for path in ("/v1/conversations", "/v1/keys", "/v1/usage", "/v1/me", messages, "/v1/openapi.json", "/ready"):
        await client("GET", path, None, token)
    await client("PUT", "/v1/me/password", {"old": PASSWORD, "new": PASSWORD}, token)
    return [token, session["refresh_token"], made["key"]]


def holds(folder: Path, secret: str) -> list[str]:
    """Return the files in the folder that contain the secret."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def writes_no_core(process: int) -> bool:
    """Return whether the process can write no core dump."""
    limits = Path(f"/proc/{process}/limits").read_text(encoding="ascii")
    return re.search(r"Max core file size +0 ", limits) is not None


async def test_secrets_and_words_stay_where_they_belong(tmp_path: Path) -> None:
    data, redis_folder = tmp_path / "data", tmp_path / "redis"
    data.mkdir()
    refusal: list[Action] = [("status", 401, {}, f'{{"error": "{LEAK} {UPSTREAM_KEY}"}}'.encode())]
    async with upstream(says(ANSWER), says(ANSWER), refusal, default=says(ANSWER)) as up:
        async with redis_server(redis_folder) as redis, redis.client() as client:
            server = Server(
                data, up.url, log_level="debug", redis_url=redis.url, api_keys={"phone": OPERATOR_KEY},
                registration="open", token_secret=TOKEN_SECRET, encryption_keys=ENCRYPTION_KEY, errors=tmp_path / "log",
            )  # fmt: skip
            await server.start()
            assert server.process is not None
            assert writes_no_core(server.process.pid)
            asking = Client(server)
            given = await live(asking)
            await client.save()
            dump = redis_folder.joinpath("dump.rdb").read_bytes()
            log = (tmp_path / "log").read_text(encoding="utf-8", errors="replace")
            secrets = [PASSWORD, UPSTREAM_KEY, OPERATOR_KEY, TOKEN_SECRET, ENCRYPTION_KEY, *given]
            assert "turn" in log and len(dump) > 200, "the log and the dump are not empty"
            assert not [secret for secret in [*secrets, WORDS, ANSWER, DOCUMENT, LEAK] if secret in log]
            assert not [secret for secret in [*secrets, WORDS, ANSWER, DOCUMENT] if secret.encode() in dump]
            assert not {secret: found for secret in secrets if (found := holds(data, secret))}
            assert holds(data, WORDS), "the conversation is stored"
            for where, body in asking.bodies:
                told = [secret for secret in [*secrets, LEAK] if secret.encode() in body]
                allowed = {
                    "POST /v1/sessions 201": given[:2], "POST /v1/keys 201": given[2:],
                    "POST /api/conversations/create 200": [UPSTREAM_KEY],
                }.get(where, [])  # fmt: skip
                assert set(told) <= set(allowed), where
                assert b"Traceback" not in body and str(tmp_path).encode() not in body, where
            session = await asking("POST", "/v1/sessions", {"name": "ann", "password": PASSWORD})
            await asking("DELETE", "/v1/me", {"password": PASSWORD}, session["access_token"])
            assert not {word: found for word in (WORDS, ANSWER, DOCUMENT) if (found := holds(data, word))}
            await server.kill()
