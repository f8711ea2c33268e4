"""Look the question up in a knowledge store."""

from typing import Annotated

from pydantic import Field

from nodes.contract import State, Turn, Update, node

LONGEST_CHARACTERS = 2000
"""Of a question: more is no speech, and would hold up every other call."""


@node(reads="question", writes="passages", uses={"store": "store"})
async def retrieve(
    state: State, turn: Turn, *, store: str = "main", top_k: Annotated[int, Field(ge=1, le=50)] = 4
) -> Update:
    """Find the passages that speak to the question; none rather than the least bad ones."""
    question = state["question"][-LONGEST_CHARACTERS:]
    return {"passages": await turn.services.store(store).search(question, top_k) if question.strip() else []}
