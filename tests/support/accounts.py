"""A user of a running server, as a client of `/api`."""

import json
from dataclasses import dataclass
from typing import Any

from tests.support.serving import Reply, Served

PASSWORD = "SecureP@ssw0rd!"


@dataclass
class Somebody:
    """A user who is logged in."""

    served: Served
    token: str

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of the user's requests."""
        return {"authorization": f"Bearer {self.token}"}

    async def post(self, path: str, body: Any = None, **headers: str) -> Reply:
        """Send a POST request of the user, with a JSON body."""
        data = b"" if body is None else body
        return await self.served.post(path, data, {**self.headers, **headers})

    async def get(self, path: str, **headers: str) -> Reply:
        """Send a GET request of the user."""
        return await self.served.get(path, {**self.headers, **headers})

    async def conversation(self, **fields: Any) -> int:
        """Create a conversation and return its number."""
        body = {"title": "Trip", "model": "gpt-4o", **fields}
        reply = await self.post("/api/conversations/create", body)
        assert reply.status == 200, reply.body
        number: int = reply.json()["conversation_id"]
        return number

    async def say(self, conversation: int, message: str) -> Reply:
        """Send a message to the conversation and return the reply."""
        return await self.post(f"/api/chat/{conversation}", {"message": message})

    async def history(self, conversation: int) -> list[tuple[str, str]]:
        """Return the role and the content of each message of the conversation."""
        reply = await self.get(f"/api/conversations/history/{conversation}")
        return [(message["role"], message["content"]) for message in reply.json()["messages"]]

    async def base(self, name: str = "Law") -> str:
        """Create a knowledge base and return its id."""
        reply = await self.post("/api/rag/kb/create", {"kb_name": name})
        assert reply.status == 200, reply.body
        identity: str = reply.json()["kb_id"]
        return identity

    async def upload(self, base: str, name: str, content: bytes, **headers: str) -> Reply:
        """Upload a file to a knowledge base."""
        body, kind = form({"kb_id": base}, name, content)
        return await self.post("/api/rag/doc/upload", body, **{"content-type": kind, **headers})


def form(fields: dict[str, str], file_name: str, content: bytes) -> tuple[bytes, str]:
    """Return a multipart body and its content type."""
    parts = [
        f'--limit\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--limit\r\ncontent-disposition: form-data; name="file"; filename="{file_name}"\r\n\r\n'.encode()
    return b"".join([*parts, head, content, b"\r\n--limit--\r\n"]), "multipart/form-data; boundary=limit"


async def somebody(served: Served, name: str = "john_doe") -> Somebody:
    """Register a user and log them in."""
    credentials = {"username": name, "password": PASSWORD}
    assert (await served.post("/api/users/register", credentials)).status == 201
    reply = await served.post("/api/users/login", credentials)
    assert reply.status == 200, reply.body
    return Somebody(served, reply.json()["token"])


def events(reply: Reply) -> list[tuple[str, str]]:
    """Return the events of a stream of `/api`, each with its data. Check that each line has the documented form."""
    assert reply.status == 200, reply.body
    found = []
    for block in reply.body.decode().strip().split("\n\n"):
        if block != ": ka":
            assert block.startswith("data: ") and "\n" not in block
            event = json.loads(block[6:])
            assert set(event) == {"event", "data"}
            found.append((event["event"], event["data"]))
    return found


def answer(reply: Reply) -> str:
    """Return the text of a complete stream. Check that its last event repeats the whole text."""
    told = events(reply)
    assert [name for name, _ in told[-2:]] == ["done", "full_response"], told
    assert told[-2][1] == "Stream finished"
    assert {name for name, _ in told[:-2]} <= {"message"}
    text = "".join(data for _, data in told[:-2])
    assert told[-1][1] == text
    return text
