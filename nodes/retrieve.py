"""Look the question up in a knowledge store."""

from typing import Annotated, Literal

from pydantic import Field

from dialgraph import Citation, Citations, Filter, State, Turn, Update, node
from dialgraph.passages import LONGEST_QUESTION, MAX_TOP_K

_LONGEST = LONGEST_QUESTION // 2
"""Characters of a question: more is no speech, and would hold up every other call. What was said last counts."""


@node(reads="question", writes="passages", uses={"store": "store"})
async def retrieve(
    state: State,
    turn: Turn,
    *,
    store: str = "main",
    top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K)] = 4,
    min_score: Annotated[float | None, Field(ge=0, le=1)] = None,
    documents: tuple[str, ...] = (),
    tags: tuple[str, ...] = (),
    language: Literal["", "en", "zh"] = "",
    cite: bool = False,
) -> Update:
    """Find the passages that speak to the question; none rather than the least bad ones.

    `min_score` (0 to 1) takes the place of the store's own threshold. `documents`, `tags` (all of them) and `language`
    say where to look. With `cite` the answer's last chunk says where it was found, in a field `citations`.
    """
    question = state["question"][-_LONGEST:]
    if not question.strip():
        return {"passages": []}
    only = Filter(documents, tags, language)
    passages = await turn.services.store(store).search(question, top_k, only, min_score)
    if cite:
        found = tuple(
            Citation(one.document, one.heading, one.page, one.start, one.end, round(one.score, 3)) for one in passages
        )
        await turn.emit(Citations(found))
    return {"passages": passages}
