"""The size of the database after thousands of turns."""

from pathlib import Path

import pytest

from dialgraph.storage.cache import NoCache
from dialgraph.storage.database import Database
from dialgraph.users.accounts.encryption import Encryption
from dialgraph.users.accounts.passwords import Passwords
from dialgraph.users.accounts.tokens import Tokens
from dialgraph.users.accounts.users import Users
from dialgraph.users.conversations.conversations import Conversations
from dialgraph.users.conversations.copies import ConversationCache
from dialgraph.users.conversations.turns import BegunTurn, ConversationTurns
from tests.support.storing import KEY
from tests.whole.test_kills import report


def bytes_of(folder: Path) -> int:
    """Return the size of the database and its journal, in bytes."""
    return sum(file.stat().st_size for file in folder.glob("dialgraph.db*"))


@pytest.mark.soak
async def test_the_database_grows_in_proportion_to_the_text(tmp_path: Path) -> None:
    """Allow three times the text, plus 4 KiB for each turn."""
    turns, text = 10_000, "What was said of it. " * 24
    database = Database("sqlite:", tmp_path)
    sealed = Encryption([KEY])
    copies = ConversationCache(NoCache(), sealed)
    user = (await Users(database, Passwords(), Tokens(b"x" * 32)).register("ann", "correct horse battery")).id
    conversations, running = Conversations(database, sealed, copies), ConversationTurns(database, copies)
    for _ in range(turns // 500):
        chat = (await conversations.create(user, graph="chat")).id
        for _ in range(500):
            begun = await running.begin(user, chat, text)
            assert isinstance(begun, BegunTurn)
            await running.note({begun: text[:200]})
            await running.end(begun, text, "complete")
    await database.forget_old_pages()
    await database.aclose()
    size = bytes_of(tmp_path)
    assert size <= 3 * 2 * len(text) * turns + 4096 * turns, f"{size / turns:.0f} bytes a turn"
    report(f"growth: {turns} turns of {2 * len(text)} characters, {size / turns:.0f} bytes a turn")
