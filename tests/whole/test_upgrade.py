"""The files of an earlier version still work: its data folder, its `.env` and its key file, with all their content.

The commands of commit f17ebaf made data_of_f17ebaf.tar.xz. It holds an operator's key, a user with a password, a key,
two conversations (one with an upstream and a key of the user's own), a knowledge base, and rows of usage.
"""

import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dialgraph.project import ROOT
from tests.support.server_process import refused_start, serve_command

OPERATOR = "dg_QKXg5KzoMvKnuQvgo8-iuyiF-eok0tP1LU7gnBNskJk"
BOT = "dg_KFMgodLUuw9ZZCujNiGnzo-l2JJngol1z0PCkUizboo"
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "stream": False}


def unpacked(folder: Path) -> Path:
    """Unpack the data of that commit into the folder. Return the folder."""
    with tarfile.open(ROOT / "tests" / "data_of_f17ebaf.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@asynccontextmanager
async def upgraded(folder: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """Start the new server on the old data and yield a client of it."""
    async with serve_command(unpacked(folder), DIALGRAPH_DATA_DIR=str(folder)) as process:
        assert process.stdout is not None
        first = (await process.stdout.readline()).decode()
        assert " on http://" in first, first
        async with aiohttp.ClientSession(first.split(" on ")[1].split()[0].rstrip(",.")) as client:
            yield client
        process.terminate()


async def test_keys_users_conversations_and_knowledge_still_work_after_an_upgrade(tmp_path: Path) -> None:
    async with upgraded(tmp_path) as client:

        async def answered(method: str, path: str, key: str, body: Any = None) -> tuple[int, Any]:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            async with client.request(method, path, json=body, headers=headers) as response:
                return response.status, await response.json()

        turns = [await answered("POST", "/chat/completions", key, BODY) for key in (OPERATOR, BOT, "", "dg_wrong")]
        assert [status for status, _ in turns] == [200, 200, 401, 401]
        login = {"name": "ann", "password": "pass-word-of-ann-1"}
        assert (await answered("POST", "/v1/users", "", {**login, "name": "bob"}))[0] == 403, "registration is closed"
        _, session = await answered("POST", "/v1/sessions", "", login)
        ann = session["access_token"]
        _, listed = await answered("GET", "/v1/conversations", ann)
        mine, trip = listed["data"]
        assert mine["has_api_key"] and trip["title"] == "A trip" and trip["turns"] == 1
        _, said = await answered("GET", f"/v1/conversations/{trip['id']}/messages", ann)
        assert [message["role"] for message in said["data"]] == ["user", "assistant"]
        status, _ = await answered("POST", f"/v1/conversations/{trip['id']}/messages", ann, {"content": "And?"})
        assert status in (200, 201)
        _, bases = await answered("GET", "/v1/knowledge-bases", ann)
        (base,) = bases["data"]
        question = {"query": "When does the sauna open?"}
        _, found = await answered("POST", f"/v1/knowledge-bases/{base['id']}/search", ann, question)
        assert found[0]["text"] == "The sauna opens at noon."
        _, usage = await answered("GET", "/v1/usage", ann)
        assert usage["data"]


@pytest.mark.parametrize("file", ["keys.json", "token.secret", "encryption.key"])
async def test_a_torn_old_file_stops_the_start_with_one_sentence(file: str, tmp_path: Path) -> None:
    unpacked(tmp_path)
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(whole[: len(whole) // 3])
    said = await refused_start(tmp_path, DIALGRAPH_DATA_DIR=str(tmp_path))
    assert len(said.splitlines()) == 1 and str(tmp_path) not in said, said


async def test_an_old_value_that_is_no_longer_accepted_is_named(tmp_path: Path) -> None:
    variables = {"DIALGRAPH_DATA_DIR": str(tmp_path), "DIALGRAPH_BODY_LIMIT_MB": "inf"}
    said = await refused_start(unpacked(tmp_path), **variables)
    assert "body_limit_mb" in said.lower() and len(said.splitlines()) == 1
