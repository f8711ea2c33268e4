"""The queries that a search sends to SQLite, each in the transaction of its search."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from dialgraph.passages import Filter, Passage
from knowledge.passages.terms import token
from knowledge.search.fuse import heaviest, summed
from knowledge.search.query import ALIKE_MOST, Spelling, words_from
from knowledge.search.relevance import Query
from knowledge.search.vectors import Ids
from knowledge.stores.rows import StoreRow


class ComparedRow(NamedTuple):
    """The data that a passage is compared by."""

    passage: int
    terms: bytes
    vector: bytes


def listed(numbers: Iterable[int]) -> str:
    """Return our own integers as a list in SQL. This is faster than one parameter for each."""
    return ",".join(map(str, numbers))


def store_row(connection: sqlite3.Connection, name: str) -> StoreRow | None:
    row = connection.execute(
        "SELECT id, embedder, words, generation, passages, units FROM knowledge_store WHERE name = ?", (name,)
    ).fetchone()
    return StoreRow(*row) if row else None


def last_passage(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'knowledge_passage'").fetchone()
    return int(row[0]) if row else 0


def allowed_passages(connection: sqlite3.Connection, store: StoreRow, only: Filter) -> Ids:
    """Return the passages of the documents that may answer."""
    documents = [
        number
        for number, name, language, tags in connection.execute(
            "SELECT id, name, language, tags FROM knowledge_document WHERE store_id = ? AND live", (store.id,)
        )
        if (not only.documents or name in only.documents)
        and (not only.language or language == only.language)
        and set(only.tags) <= set(orjson.loads(tags))
    ]
    rows = connection.execute(
        "SELECT id FROM knowledge_passage WHERE document_id IN (SELECT value FROM json_each(?)) ORDER BY id",
        (orjson.dumps(documents).decode(),),
    ).fetchall()
    return np.array([row[0] for row in rows], dtype=np.int64)


def spellings(connection: sqlite3.Connection, store: StoreRow, prefix: str) -> list[Spelling]:
    """Return the store's words that begin with the prefix."""
    rows = connection.execute(
        "SELECT term, code, passages FROM knowledge_term WHERE store_id = ? AND term >= ? AND term < ?"
        " AND passages > 0 LIMIT ?",
        (store.id, *words_from(prefix), ALIKE_MOST),
    )
    return [Spelling(*row) for row in rows]


def found_by_words(
    connection: sqlite3.Connection,
    store: StoreRow,
    asked: Query,
    numbers: Sequence[int],
    allowed: Ids | None,
    unseen: Sequence[tuple[int, int]],
) -> Ids:
    """Return the passages that hold these units, heaviest first."""
    if not numbers:
        return np.zeros(0, dtype=np.int64)
    # One statement, with one text of ids for each unit, takes a third of the time of one row for each id.
    each = "SELECT ?, group_concat(rowid) FROM knowledge_words WHERE knowledge_words MATCH ?"
    parameters = [part for number in numbers for part in (asked.weights[number], token(store.id, number))]
    found = connection.execute(" UNION ALL ".join([each] * len(numbers)), parameters).fetchall()
    every, sums = summed([(weight, np.fromstring(listed or "", dtype=np.int64, sep=",")) for weight, listed in found])
    if allowed is not None:
        kept = np.isin(every, allowed, assume_unique=True)
        every, sums = every[kept], sums[kept]
    if unseen:
        kept = seen(every, unseen)
        every, sums = every[kept], sums[kept]
    return heaviest(every, sums)


def unseen_ranges(connection: sqlite3.Connection, store: StoreRow) -> list[tuple[int, int]]:
    """Return the first and last passage of each document that is not visible, largest first. Usually there is none."""
    rows = connection.execute(
        "SELECT (SELECT min(passage_id) FROM knowledge_compared WHERE document_id = d.id),"
        " (SELECT max(passage_id) FROM knowledge_compared WHERE document_id = d.id)"
        " FROM knowledge_document d INDEXED BY knowledge_document_unseen WHERE d.store_id = ? AND NOT d.live"
        " ORDER BY d.passages DESC LIMIT 200",
        (store.id,),
    )
    return [(first, last) for first, last in rows if first is not None]


def seen(ids: Ids, unseen: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """Return which of the ids are in none of the ranges.

    There is only one writer at a time, so a range holds no passages of another document.
    """
    kept = np.ones(len(ids), dtype=np.bool_)
    for first, last in unseen:
        kept &= (ids < first) | (ids > last)
    return kept


def living(connection: sqlite3.Connection, store: StoreRow, ids: Sequence[int], most: int) -> list[ComparedRow]:
    """Return the first `most` of these passages whose documents are visible, in the same order."""
    living: list[ComparedRow] = []
    for first in range(0, len(ids), most):
        part = ids[first : first + most]
        found = {
            row[0]: ComparedRow(*row)
            for row in connection.execute(
                "SELECT c.passage_id, c.terms, c.vector FROM knowledge_compared c"  # noqa: S608  # our own integers
                " CROSS JOIN knowledge_document d ON d.id = c.document_id"
                f" WHERE c.passage_id IN ({listed(part)}) AND d.live AND +d.store_id = ?",
                (store.id,),
            )
        }
        living += [found[number] for number in part if number in found]
        if len(living) >= most:
            break
    return living[:most]


def passages_of(connection: sqlite3.Connection, scores: dict[int, float]) -> list[Passage]:
    """Return the passages in the order of the scores."""
    rows = connection.execute(
        'SELECT p.id, p.text, d.name, p.heading, p.page, p.start, p."end" FROM knowledge_passage p'  # noqa: S608  # our own integers
        f" CROSS JOIN knowledge_document d ON d.id = p.document_id WHERE p.id IN ({listed(scores)})"
    )
    found = {
        number: Passage(text, name, heading, scores[number], page, start, end)
        for number, text, name, heading, page, start, end in rows
    }
    return [found[number] for number in scores]
