"""Checks whether rows, words and vectors agree. Each fault is a sentence for the person who must decide what to do."""

import sqlite3
from collections import Counter

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from knowledge.passages.terms import token
from knowledge.stores.rows import StoreRow


def sqlite_faults(connection: sqlite3.Connection, store: StoreRow, name: str) -> list[str]:
    """Return the faults of a store in SQLite. Reads every row and checks every unit."""
    faults = []
    if (state := connection.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
        faults.append(f"store {name!r}: the database is damaged: {state}.")
    unseen, live, bare = connection.execute(
        "SELECT coalesce(sum(NOT d.live), 0), coalesce(sum(d.live), 0), coalesce(sum(c.passage_id IS NULL), 0)"
        " FROM knowledge_document d JOIN knowledge_passage p ON p.document_id = d.id"
        " LEFT JOIN knowledge_compared c ON c.passage_id = p.id WHERE d.store_id = ?",
        (store.id,),
    ).fetchone()
    if unseen:
        faults.append(f"store {name!r}: {unseen} passages belong to no visible document.")
    if live != store.passages:
        faults.append(f"store {name!r}: it counts {store.passages} passages and holds {live}.")
    if bare:
        faults.append(f"store {name!r}: {bare} passages have no words and no vector.")
    wrong = connection.execute(
        "SELECT count(*) FROM knowledge_document d WHERE d.store_id = ? AND d.live AND d.passages !="
        " (SELECT count(*) FROM knowledge_passage p WHERE p.document_id = d.id)",
        (store.id,),
    ).fetchone()[0]
    if wrong:
        faults.append(f"store {name!r}: {wrong} documents are incomplete.")
    counted, expected = _units(connection, store)
    if counted != dict(connection.execute(_COUNTS, (store.id,))):
        faults.append(f"store {name!r}: its word counts are wrong. Rebuild it.")
    if lost := sum(not _holds(connection, store, number, ids) for number, ids in expected.items()):
        faults.append(f"store {name!r}: {lost} words lead to the wrong passages. Rebuild it.")
    return faults


_COUNTS = "SELECT code, passages FROM knowledge_term WHERE store_id = ? AND passages > 0"


def _units(connection: sqlite3.Connection, store: StoreRow) -> tuple[Counter[int], dict[int, set[int]]]:
    """Return how many passages hold each unit, and which ones."""
    counted: Counter[int] = Counter()
    where: dict[int, set[int]] = {}
    rows = connection.execute(
        "SELECT c.passage_id, c.terms FROM knowledge_document d JOIN knowledge_compared c ON c.document_id = d.id"
        " WHERE d.store_id = ?",
        (store.id,),
    )
    for passage, terms in rows:
        codes = np.frombuffer(terms, dtype=np.uint32)
        for number in np.unique(codes[codes != 0]).tolist():
            counted[number] += 1
            where.setdefault(number, set()).add(passage)
    return counted, where


def _holds(connection: sqlite3.Connection, store: StoreRow, number: int, ids: set[int]) -> bool:
    rows = connection.execute(
        "SELECT rowid FROM knowledge_words WHERE knowledge_words MATCH ?", (token(store.id, number),)
    )
    return {row[0] for row in rows} == ids


async def postgres_faults(connection: AsyncConnection, store: StoreRow, name: str, *, walked: bool) -> list[str]:
    """Return the faults of a store in PostgreSQL, which checks the integrity of its files by itself.

    For `walked` see `insert_compared`.
    """
    faults = []
    counts = text(
        "SELECT count(*) FILTER (WHERE NOT d.live) AS unseen, count(*) FILTER (WHERE d.live) AS live,"
        " count(*) FILTER (WHERE w.words IS NULL OR c.vector IS NULL OR :walked AND c.embedding IS NULL) AS bare,"
        " count(*) FILTER (WHERE w.document_id <> d.id OR c.document_id <> d.id) AS strayed"
        " FROM knowledge_document d JOIN knowledge_passage p ON p.document_id = d.id"
        " LEFT JOIN knowledge_compared c ON c.passage_id = p.id LEFT JOIN knowledge_words w ON w.passage_id = p.id"
        " WHERE d.store_id = :store"
    )
    row = (await connection.execute(counts, {"store": store.id, "walked": walked})).one()
    if row.unseen:
        faults.append(f"store {name!r}: {row.unseen} passages belong to no visible document.")
    if row.live != store.passages:
        faults.append(f"store {name!r}: it counts {store.passages} passages and holds {row.live}.")
    if row.bare:
        faults.append(f"store {name!r}: {row.bare} passages have no words and no vector.")
    if row.strayed:
        faults.append(f"store {name!r}: {row.strayed} passages are indexed under the wrong document. Rebuild it.")
    wrong = text(
        "SELECT count(*) FROM (SELECT lexeme, count(*) AS held FROM knowledge_document d"
        " JOIN knowledge_words s ON s.document_id = d.id, unnest(s.words)"
        " WHERE d.store_id = :store GROUP BY lexeme) w"
        " FULL JOIN (SELECT * FROM knowledge_term WHERE store_id = :store AND passages > 0) t"
        " ON w.lexeme = to_hex(CAST(:store AS bigint)) || 'g' || lpad(to_hex(t.code), 8, '0')"
        " WHERE w.held IS DISTINCT FROM t.passages"
    )
    if await connection.scalar(wrong, {"store": store.id}):
        faults.append(f"store {name!r}: its word counts are wrong. Rebuild it.")
    return faults
