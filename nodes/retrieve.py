"""The node `retrieve`: searches a knowledge store for the question."""

from typing import Annotated, Literal

from pydantic import Field

from dialgraph import Citation, Citations, Filter, State, Turn, Update, node
from dialgraph.passages import LONGEST_QUESTION, MAX_TOP_K

_LONGEST = LONGEST_QUESTION // 2
"""The most characters of a question; only its end is used. A longer text is not speech and would block other calls."""


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
    """Find the passages in a store that answer the question. If no passage answers it, the result is empty.

    - `store`: the name of a store in the settings.
    - `top_k`: the most passages to return.
    - `min_score`: the lowest score of a passage, from 0 to 1. It replaces the store's own threshold.
    - `documents`: search only these documents. Empty: all documents.
    - `tags`: search only documents that have all of these tags.
    - `language`: search only documents in this language (`en`, `zh`). Empty: both.
    - `cite`: add a field `citations` to the last chunk of the answer. It says where the passages were found.
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
