"""A process that stores turns until it is killed, and prints a line for each turn that it has stored.

`python -m tests.support.storing FOLDER [DATABASE]`
"""

import asyncio
import random
import sys
from contextlib import suppress
from pathlib import Path

from dialgraph.storage.cache import NoCache
from dialgraph.storage.database import Database
from dialgraph.storage.errors import DatabaseError
from dialgraph.users.accounts.encryption import Encryption
from dialgraph.users.accounts.errors import UnknownUserError
from dialgraph.users.accounts.key_hash import hash_of
from dialgraph.users.accounts.passwords import Passwords
from dialgraph.users.accounts.tokens import Tokens
from dialgraph.users.accounts.users import Users
from dialgraph.users.conversations.conversations import Conversations
from dialgraph.users.conversations.copies import ConversationCache
from dialgraph.users.conversations.turns import BegunTurn, ConversationTurns

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
TALKING = 4


def tell(line: str) -> None:
    """Print a line immediately. Each line is a promise that a test checks."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(folder: Path, url: str = "sqlite:") -> None:
    """Store turns in several conversations at the same time."""
    database = Database(url, folder)
    sealed = Encryption([KEY])
    copies = ConversationCache(NoCache(), sealed)
    users = Users(database, Passwords(), Tokens(b"x" * 32))
    conversations = Conversations(database, sealed, copies)
    turns = ConversationTurns(database, copies)
    try:
        user = (await users.known("ann")).id
    except UnknownUserError:
        user = (await users.register("ann", "correct horse battery")).id
    tell("ready")

    async def talk(seed: int) -> None:
        dice = random.Random(f"{seed}-{dice_of_all.random()}")
        while True:
            with suppress(DatabaseError):  # the disk may fail: a turn without a line is not promised
                await converse(dice, (await conversations.create(user, graph="chat")).id)
            await asyncio.sleep(0.01)

    async def converse(dice: random.Random, chat: str) -> None:
        for at in range(1_000_000):
            begun = await turns.begin(user, chat, f"question {at}")
            assert isinstance(begun, BegunTurn)
            answer = "".join(f"{dice.random()} " for _ in range(dice.randrange(1, 60)))
            await turns.note({begun: answer[: len(answer) // 2]})
            tell(f"begun {begun.id} {chat} {begun.position}")
            state = "complete" if dice.random() < 0.8 else "interrupted"
            await turns.end(begun, answer, "complete" if state == "complete" else "interrupted")
            tell(f"told {begun.id} {chat} {begun.position} {state} {hash_of(answer)}")

    dice_of_all = random.Random()
    await asyncio.gather(*(talk(seed) for seed in range(TALKING)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
