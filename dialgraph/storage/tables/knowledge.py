"""The tables of knowledge: stores, documents, passages, their vectors and words, and the jobs that add documents.

A document's passages are written in several short transactions. They all become visible together, when the document's
row becomes `live`. A unit of text is stored as its number (`knowledge.passages.terms`). The words themselves are only
in `knowledge_term`, once per store.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)  # fmt: skip

METADATA = MetaData()
_ID = BigInteger().with_variant(Integer, "sqlite")  # SQLite assigns increasing ids only to an INTEGER key

STORE = Table(
    "knowledge_store",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("embedder", String(256), nullable=False),
    Column("words", String(32), nullable=False),
    Column("generation", BigInteger, nullable=False, default=0),
    Column("passages", BigInteger, nullable=False, default=0),
    Column("units", BigInteger, nullable=False, default=0),
)
DOCUMENT = Table(
    "knowledge_document",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("store_id", _ID, ForeignKey("knowledge_store.id"), nullable=False),
    Column("name", String(512), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("live", Boolean, nullable=False),
    Column("language", String(8), nullable=False),
    Column("tags", JSON, nullable=False),
    Column("media_type", String(128), nullable=False),
    Column("characters", BigInteger, nullable=False),
    Column("passages", Integer, nullable=False),
    Column("units", BigInteger, nullable=False),
    Column("added_at", BigInteger, nullable=False),
    Index("knowledge_document_name", "store_id", "name"),
    Index("knowledge_document_unseen", "store_id", sqlite_where=text("NOT live"), postgresql_where=text("NOT live")),
)
PASSAGE = Table(
    "knowledge_passage",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("document_id", _ID, ForeignKey("knowledge_document.id"), nullable=False, index=True),
    Column("position", Integer, nullable=False),
    Column("heading", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("page", Integer),
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    Column("digest", LargeBinary(16), nullable=False, index=True),
)
COMPARED = Table(  # separate from the text, so that a search reads few pages
    "knowledge_compared",
    METADATA,
    Column("passage_id", _ID, ForeignKey("knowledge_passage.id"), primary_key=True, autoincrement=False),
    Column("document_id", _ID, nullable=False, index=True),
    Column("terms", LargeBinary, nullable=False),
    Column("vector", LargeBinary, nullable=False),
)
TERM = Table(
    "knowledge_term",
    METADATA,
    Column("store_id", _ID, ForeignKey("knowledge_store.id"), primary_key=True),
    Column("code", BigInteger, primary_key=True),
    Column("term", String(128)),
    Column("passages", BigInteger, nullable=False),
    Index("knowledge_term_text", "store_id", "term"),
)
JOB = Table(
    "knowledge_job",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("store", String(128), nullable=False),
    Column("document", String(512), nullable=False),
    Column("tags", JSON, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("source", LargeBinary),
    Column("done", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("tries", SmallInteger, nullable=False),
    Column("error", String(512), nullable=False),
    Column("fault", String(12), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("leased_until", BigInteger, nullable=False),
)

_SEARCHED_BY = {
    # Stores only which row has which unit: no text, no positions. To delete a row, its tokens must be passed again.
    "sqlite": (
        "CREATE VIRTUAL TABLE IF NOT EXISTS knowledge_words"
        " USING fts5(tokens, content='', detail=none, columnsize=0, tokenize=ascii)",
        "INSERT INTO knowledge_words (knowledge_words, rank) VALUES ('hashsize', 16777216)",
    ),
    "postgresql": (
        "CREATE EXTENSION IF NOT EXISTS vector",
        "ALTER TABLE knowledge_compared ADD COLUMN IF NOT EXISTS embedding vector",
        # A separate table: a search scans thousands of these rows and compares only a few.
        "CREATE TABLE IF NOT EXISTS knowledge_words"
        " (passage_id bigint PRIMARY KEY, document_id bigint NOT NULL, words tsvector NOT NULL)",
        "CREATE INDEX IF NOT EXISTS knowledge_words_found ON knowledge_words USING gin (words)"
        " WITH (gin_pending_list_limit = 512)",  # in kB; each search scans the whole pending list
    ),
}


def prepare_search(connection: Connection) -> None:
    """Create the tables, columns and indexes that search words and vectors. It can be called more than once."""
    for statement in _SEARCHED_BY[connection.dialect.name]:
        connection.execute(text(statement))


def pgvector_is_there(connection: Connection) -> bool:
    """Return whether this PostgreSQL has pgvector available. Always true for SQLite, which does not need it."""
    if connection.dialect.name != "postgresql":
        return True
    return bool(connection.scalar(text("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'")))
