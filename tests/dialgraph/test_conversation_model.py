"""Conversations compared with a simple model: in any order of events, the rows equal a list in memory."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dialgraph.storage.cache import NoCache
from dialgraph.storage.database import Database
from dialgraph.users.accounts.encryption import Encryption
from dialgraph.users.accounts.passwords import Passwords
from dialgraph.users.accounts.tokens import Tokens
from dialgraph.users.accounts.users import Users
from dialgraph.users.conversations.conversations import Conversations
from dialgraph.users.conversations.copies import ConversationCache
from dialgraph.users.conversations.prompt import MOST_CHARACTERS, messages_for
from dialgraph.users.conversations.turns import BegunTurn, ConversationTurns
from dialgraph.users.conversations.values import (
    BusyConversationError,
    KeptTurn,
    OtherRequestError,
    PassedTurnError,
    State,
    UnknownConversationError,
)
from tests.support.storing import KEY

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
STATES: list[State] = ["complete", "interrupted", "failed"]


class Talk(RuleBasedStateMachine):
    """Two users, their conversations, and one server that may restart at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.users: list[str] = []
        self.chats: dict[str, tuple[str, list[list[str]]]] = {}
        self.running: dict[str, BegunTurn] = {}

    @initialize()
    def begin(self) -> None:
        self.open()
        users = Users(self.database, Passwords(), Tokens(b"x" * 32))
        for name in ("ann", "bob"):
            self.users.append(self.runner.run(users.register(name, "correct horse")).id)

    def open(self) -> None:
        self.database = Database("sqlite:", Path(self.folder.name))
        sealed = Encryption([KEY])
        copies = ConversationCache(NoCache(), sealed)
        self.conversations = Conversations(self.database, sealed, copies)
        self.turns = ConversationTurns(self.database, copies, wait_seconds=0)

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def pick(self, choice: int) -> str | None:
        return sorted(self.chats)[choice % len(self.chats)] if self.chats else None

    @rule(user=st.integers(0, 1), title=TEXTS)
    def create(self, user: int, title: str) -> None:
        made = self.run(self.conversations.create(self.users[user], title=title, graph="chat"))
        self.chats[made.id] = (self.users[user], [])

    @rule(choice=st.integers(0), question=TEXTS, key=st.one_of(st.none(), st.sampled_from("abc")))
    def say(self, choice: int, question: str, key: str | None) -> None:
        if (chat := self.pick(choice)) is None:
            return
        owner, said = self.chats[chat]
        before = next((turn for turn in said if key is not None and turn[3] == key), None)
        try:
            begun = self.run(self.turns.begin(owner, chat, question, key))
        except OtherRequestError:
            assert before is not None and before[0] != question
            return
        except PassedTurnError:
            assert before is not None and before[2] != "complete" and before is not said[-1]
            return
        except BusyConversationError:
            assert chat in self.running
            return
        if isinstance(begun, KeptTurn):
            assert before is not None and [begun.question, begun.answer, begun.state] == before[:3]
            return
        assert chat not in self.running
        assert [turn.question for turn in begun.earlier] == [turn[0] for turn in said[: begun.position - 1]]
        if before is not None:
            assert before is said[-1] and before[2] != "complete"
            before[1:3] = ["", "open"]
        else:
            said.append([question, "", "open", key or ""])
        self.running[chat] = begun

    @rule(choice=st.integers(0), answer=TEXTS, state=st.sampled_from(STATES))
    def end(self, choice: int, answer: str, state: State) -> None:
        if not self.running:
            return
        chat = sorted(self.running)[choice % len(self.running)]
        turn = self.running.pop(chat)
        if chat not in self.chats:
            try:
                self.run(self.turns.end(turn, answer, state))
            except UnknownConversationError:
                return
            raise AssertionError("a turn of a deleted conversation was stored")
        self.run(self.turns.end(turn, answer, state))
        self.chats[chat][1][-1][1:3] = [answer, state]

    @rule(answer=TEXTS)
    def note(self, answer: str) -> None:
        gone = self.run(self.turns.note(dict.fromkeys(self.running.values(), answer)))
        assert {turn.conversation_id for turn in gone} == set(self.running) - set(self.chats)
        for chat in set(self.running) & set(self.chats):
            self.chats[chat][1][-1][1] = answer

    @rule(choice=st.integers(0))
    def delete(self, choice: int) -> None:
        if (chat := self.pick(choice)) is not None:
            self.run(self.conversations.delete(self.chats.pop(chat)[0], chat))

    @rule()
    def start_again(self) -> None:
        self.run(self.database.aclose())
        self.open()

    @invariant()
    def rows_are_the_model(self) -> None:
        for user in self.users:
            listed = self.run(self.conversations.page(user, None))
            assert {one.id for one in listed} == {chat for chat, (owner, _) in self.chats.items() if owner == user}
        for chat, (owner, said) in self.chats.items():
            kept = self.run(self.conversations.turns(owner, chat))
            assert [[turn.question, turn.answer, turn.state] for turn in kept] == [turn[:3] for turn in said]
            assert [turn.position for turn in kept] == list(range(1, len(said) + 1))
            other = next(user for user in self.users if user != owner)
            assert self.run(self.conversations.turns(other, chat)) == []

    def teardown(self) -> None:
        self.run(self.database.aclose())
        self.runner.close()
        self.folder.cleanup()


Talk.TestCase.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestTalk = Talk.TestCase


@given(
    st.lists(st.tuples(TEXTS, st.one_of(st.just(""), TEXTS), st.sampled_from(STATES)), max_size=80),
    TEXTS,
    st.booleans(),
)
@settings(deadline=None, max_examples=100)
def test_a_prompt_is_valid_for_any_earlier_turns(said: list[tuple[str, str, State]], question: str, told: bool) -> None:
    turns = [KeptTurn(str(at), at + 1, one[0], one[1], one[2], 0) for at, one in enumerate(said)]
    messages = messages_for("Be brief." if told else "", turns, question)
    roles = [message["role"] for message in messages]
    if told:
        assert roles.pop(0) == "system"
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
    assert str(messages[-1]["content"]).endswith(question)
    assert all(str(message["content"]) for message in messages)
    assert sum(len(str(message["content"])) for message in messages) < MOST_CHARACTERS + len(question) + 300
