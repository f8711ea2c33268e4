"""What makes passages searchable, in both SQL dialects: their words, word counts and, on PostgreSQL, vectors.

Rows go to the driver as tuples. There are many, and SQLAlchemy's dictionaries would cost as much as the database does.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from knowledge.embedders.embed import Vectors
from knowledge.passages.terms import tokens
from knowledge.stores.prepared import Prepared, packed


async def bulk(connection: AsyncConnection, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Execute a statement once for each row. The statement marks its parameters with question marks."""
    if connection.dialect.name == "postgresql":
        statement = statement.replace("?", "%s")
    if every := list(rows):
        await connection.exec_driver_sql(statement, every)


async def take_ids(connection: AsyncConnection, count: int) -> list[int]:
    """Return new passage ids, higher than all earlier ones. They rise in the order in which transactions end."""
    if connection.dialect.name == "sqlite":  # the transaction locks the database from its start
        last = await connection.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = 'knowledge_passage'")) or 0
        return list(range(last + 1, last + 1 + count))
    numbers = select(func.nextval("knowledge_passage_id_seq")).select_from(func.generate_series(1, count))
    return [int(row[0]) for row in await connection.execute(numbers)]


async def insert_compared(
    connection: AsyncConnection, passages: Sequence[tuple[int, str, Prepared]], *, walked: bool
) -> None:
    """Write what passages are found and compared by. A passage is its id, its units as tokens, and its prepared piece.

    `walked`: whether vectors find passages by themselves. Hashed vectors only score, and need no index.
    """
    rows = [(number, one.document, one.codes.tobytes(), packed(one.vector)) for number, _, one in passages]
    if connection.dialect.name == "sqlite":
        statement = "INSERT INTO knowledge_compared (passage_id, document_id, terms, vector) VALUES (?, ?, ?, ?)"
        await bulk(connection, statement, rows)
        statement = "INSERT INTO knowledge_words (rowid, tokens) VALUES (?, ?)"
        await bulk(connection, statement, ((number, found) for number, found, _ in passages))
        return
    statement = (
        "INSERT INTO knowledge_compared (passage_id, document_id, terms, vector, embedding)"
        " VALUES (?, ?, ?, ?, CAST(? AS vector))"
    )
    near = [written(one.vector) if walked else None for _, _, one in passages]
    await bulk(connection, statement, ((*row, vector) for row, vector in zip(rows, near, strict=True)))
    statement = (
        "INSERT INTO knowledge_words (passage_id, document_id, words)"
        " VALUES (?, ?, array_to_tsvector(string_to_array(?, ' ')))"
    )
    await bulk(connection, statement, ((number, one.document, found) for number, found, one in passages))


async def forget_words(
    connection: AsyncConnection, store: int, passages: Sequence[tuple[int, Sequence[int]]], held: Mapping[int, int]
) -> None:
    """Remove passages from the word index. `held` is how many of these passages hold each unit."""
    if connection.dialect.name == "sqlite":
        statement = "INSERT INTO knowledge_words (knowledge_words, rowid, tokens) VALUES ('delete', ?, ?)"
        await bulk(connection, statement, ((number, tokens(store, units)) for number, units in passages))
    else:
        await bulk(
            connection, "DELETE FROM knowledge_words WHERE passage_id = ?", ((number,) for number, _ in passages)
        )
    statement = "UPDATE knowledge_term SET passages = passages - ? WHERE store_id = ? AND code = ?"
    await bulk(connection, statement, ((count, store, number) for number, count in sorted(held.items())))


async def add_terms(connection: AsyncConnection, terms: Sequence[tuple[int, int, str | None, int]]) -> None:
    """Add to the number of passages that hold each unit.

    The terms must be sorted, so that two writers do not wait for each other.
    """
    statement = (
        "INSERT INTO knowledge_term (store_id, code, term, passages) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (store_id, code) DO UPDATE SET passages = knowledge_term.passages + excluded.passages"
    )
    await bulk(connection, statement, terms)


def written(vector: Vectors) -> str:
    """Return the vector in the text form of pgvector."""
    return f"[{','.join([f'{value:.6g}' for value in vector.tolist()])}]"
